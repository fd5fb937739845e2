//! Which connection to a broker something came by.
//!
//! The client library keeps what it is given while there is no connection, and sends it over the next one. By then the broker
//! may have lost what it had not synced, and given the sequence of one job to another. So a job is settled only over the
//! connection that brought it; over the next one it comes again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;

use crate::QueueError;

/// How often it is looked at whether there is a connection again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a request waits for one.
const IN_TIME: Duration = Duration::from_secs(5);

/// One of the connections of a client, in the order in which they were made. The default is before all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection(u64);

#[cfg(test)]
impl Connection {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Tells the connections of a client apart; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections(Client);

impl Connections {
    pub(crate) fn of(client: Client) -> Self {
        Self(client)
    }

    /// The connection there is. The client counts a connection before it says that there is one.
    pub(crate) fn current(&self) -> Option<Connection> {
        let is_connected = self.0.connection_state() == State::Connected;
        let made = self.0.statistics();
        is_connected.then(|| Connection(made.connects.load(Ordering::Acquire)))
    }

    /// The same, waiting for one.
    pub(crate) async fn made(&self) -> Connection {
        loop {
            if let Some(connection) = self.current() {
                return connection;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The same, waiting no longer than for an answer.
    pub(crate) async fn made_in_time(&self) -> Result<Connection, QueueError> {
        let made = tokio::time::timeout(IN_TIME, self.made()).await;
        made.map_err(|_| QueueError::refused("there is no connection"))
    }
}
