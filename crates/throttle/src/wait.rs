//! A no: its one reason, and how long it stands.

use std::time::Duration;

/// The longest wait for a connection before asking again: any worker may give one back at any time.
const CONNECTION_WAIT: Duration = Duration::from_millis(500);

/// Why not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The path's rate is used up.
    RateLimited,
    /// All the path's connections are open.
    ConnectionsInUse,
}

/// Not now: the one reason, and how long to wait before asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Why.
    pub reason: Reason,
    /// When it is worth asking again: exact for rates, a guess for connections.
    pub retry_after: Duration,
}

impl Wait {
    /// A wait for a token that may be there after `time`.
    pub(crate) fn for_token(time: Duration) -> Self {
        Self {
            reason: Reason::RateLimited,
            retry_after: time,
        }
    }

    /// A wait for a connection that is free at the latest after `longest`.
    pub(crate) fn for_connection(longest: Duration) -> Self {
        let retry_after = longest.min(CONNECTION_WAIT.mul_f64(rand::random_range(0.5..1.0)));
        Self {
            reason: Reason::ConnectionsInUse,
            retry_after,
        }
    }
}
