//! Which connection to a broker something came by.
//!
//! The client library keeps what it is given while there is no connection, and sends it over the next one. By then the broker
//! may have lost what it had not synced, and given the sequence of one job to another. So a job is settled only over the
//! connection that brought it; over the next one it comes again.
//!
//! Nor is a broker sure to remember, once its process has died, whom it gave a job to: it may give it to somebody else as if for
//! the first time. Where streams have copies, as a rule all servers that keep them have to die for that, and the one that is connected to is
//! among them (ADR 32); where that is not so the count of deliveries shows it. Each process of a nats-server has an id of its own, which
//! tells its death from a connection that merely broke.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use model::{Clock as _, SystemClock, Timestamp};
use tokio::time::Instant;

use crate::QueueError;

/// How often it is looked at whether there is a connection again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a request waits for one.
const IN_TIME: Duration = Duration::from_secs(5);
/// After so long what the client says of a connection is not of the one before.
const BELIEVED: Duration = Duration::from_millis(100);
/// How far clocks may be apart.
pub(crate) const CLOCKS: Duration = Duration::from_secs(5);

/// One of the connections of a client, in the order in which they were made. The default is before all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection(u64);

impl Connection {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Tells the connections of a client apart, and the processes that they lead to; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    client: Client,
    last: Arc<Mutex<Last>>,
}

/// The connection that was looked at last.
#[derive(Debug, Default)]
struct Last {
    connection: Connection,
    leads_to: Peer,
    /// The first that led to the same process.
    first: Connection,
    /// What was stored before this may have been given to somebody else; `None` where nobody has said.
    since: Option<Timestamp>,
    /// What is not believed yet, and when it was heard first.
    heard: Option<(Connection, Peer, Instant)>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Peer {
    /// The id of the process.
    server: String,
    /// What it calls this connection, and no other.
    client: u64,
}

impl Last {
    /// There is `connection`, and by what the client says it leads to `peer`: the first that led to the same process.
    ///
    /// The client counts a connection a moment before it says where that leads, so it may still mean the one before. `None`
    /// where it does, and for a while where the one before was never looked at.
    fn first_to_the_same(
        &mut self,
        connection: Connection,
        peer: Peer,
        now: Instant,
    ) -> Option<Connection> {
        if peer == self.leads_to {
            return None;
        }
        if connection != self.connection.next() && !self.has_heard_for_long(connection, &peer, now)
        {
            return None;
        }
        if peer.server != self.leads_to.server {
            let is_another = self.first != Connection::default();
            // By our clock: what is stored is stored by the broker's.
            let seen = SystemClock.now().checked_add(CLOCKS).ok();
            self.since = seen.filter(|_| is_another).or(self.since);
            self.first = connection;
        }
        (self.connection, self.leads_to, self.heard) = (connection, peer, None);
        Some(self.first)
    }

    fn has_heard_for_long(&mut self, connection: Connection, peer: &Peer, now: Instant) -> bool {
        match &self.heard {
            Some((heard, leads_to, since)) if *heard == connection && leads_to == peer => {
                now.saturating_duration_since(*since) >= BELIEVED
            }
            Some(_) | None => {
                self.heard = Some((connection, peer.clone(), now));
                false
            }
        }
    }
}

impl Connections {
    pub(crate) fn of(client: Client) -> Self {
        let connections = Self {
            client,
            last: Arc::default(),
        };
        connections.first_to_the_same();
        connections
    }

    /// The connection there is. The client counts a connection before it says that there is one.
    pub(crate) fn current(&self) -> Option<Connection> {
        let is_connected = self.client.connection_state() == State::Connected;
        let made = self.client.statistics();
        is_connected.then(|| Connection(made.connects.load(Ordering::Acquire)))
    }

    /// Whether the process that gave us something over `connection` is known to be there still. One that is not may have forgotten
    /// that, and given it to somebody else as if for the first time.
    pub(crate) fn remembers(&self, connection: Connection) -> bool {
        let is_there = |first| first <= connection;
        self.current() == Some(connection) || self.first_to_the_same().is_some_and(is_there)
    }

    /// The process came up by `since`, by its own clock.
    pub(crate) fn came_up(&self, since: Timestamp) {
        let mut last = self.lock();
        last.since = last.since.max(Some(since));
    }

    /// Whether a job that was stored at `stored_at` may have been given to somebody by a process that is no more, or has forgotten it.
    pub(crate) fn may_have_given(&self, stored_at: Timestamp) -> bool {
        if self.first_to_the_same().is_none() {
            return true;
        }
        self.lock().since.is_some_and(|since| stored_at < since)
    }

    /// Whether the server is one of several.
    pub(crate) fn lead_to_many(&self) -> bool {
        !self.client.server_info().connect_urls.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first_to_the_same(&self) -> Option<Connection> {
        let current = self.current()?;
        let mut last = self.lock();
        if last.connection == current {
            return Some(last.first);
        }
        let info = self.client.server_info();
        let peer = Peer {
            server: info.server_id,
            client: info.client_id,
        };
        // A later one may have been made between the two answers.
        (self.current() == Some(current))
            .then(|| last.first_to_the_same(current, peer, Instant::now()))?
    }

    /// The connection there is, waiting for one.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(server: &str, client: u64) -> Peer {
        let server = server.to_owned();
        Peer { server, client }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_is_told_from_another_and_a_broken_connection_from_both() {
        let mut last = Last::default();
        let mut look = |connection, server, client| {
            let peer = peer(server, client);
            last.first_to_the_same(Connection(connection), peer, Instant::now())
        };
        assert_eq!(look(1, "first", 8), Some(Connection(1)));
        assert_eq!(look(2, "first", 9), Some(Connection(1)), "it broke");
        assert_eq!(look(3, "first", 9), None, "not told yet where it leads");
        tokio::time::advance(BELIEVED).await;
        assert_eq!(look(3, "first", 9), None, "still not");
        assert_eq!(look(3, "second", 5), Some(Connection(3)));
        assert_eq!(look(4, "first", 10), Some(Connection(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_connection_was_not_looked_at_what_is_said_of_the_next_is_believed_after_a_while()
     {
        let mut last = Last::default();
        let mut look = |connection, server, client| {
            let peer = peer(server, client);
            last.first_to_the_same(Connection(connection), peer, Instant::now())
        };
        assert_eq!(look(1, "first", 8), Some(Connection(1)));
        assert_eq!(
            look(3, "first", 9),
            None,
            "it may be the second that is meant"
        );
        tokio::time::advance(BELIEVED / 2).await;
        assert_eq!(look(3, "second", 5), None);
        tokio::time::advance(BELIEVED).await;
        assert_eq!(look(3, "second", 5), Some(Connection(3)));
    }
}
