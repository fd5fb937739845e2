//! Why the past cannot be told.

use redis::RedisError;

/// A call to the history failed. Whatever it was, mail goes on without.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The configured address is not one.
    #[error("not the address of a Redis")]
    Address(#[source] RedisError),
    /// Redis failed a moment ago, and it is not yet time to try again.
    #[error("redis is away")]
    Away,
    /// Redis did not answer in time. A write may have happened or may yet happen.
    #[error("redis did not answer in time")]
    Late,
    /// Redis refused, or the connection broke. A write may have happened.
    #[error("redis failed")]
    Failed(#[source] RedisError),
    /// What is stored is not what this crate writes.
    #[error("stored value is not readable: {0}")]
    Unreadable(&'static str),
}

impl HistoryError {
    /// Whether the same call may well succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Away | Self::Late | Self::Failed(_) => true,
            Self::Address(_) | Self::Unreadable(_) => false,
        }
    }
}
