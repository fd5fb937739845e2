//! How a worker takes part in the throttling of its cell.

use std::time::Duration;

/// What a throttle needs to know beside the address of its Redis.
///
/// All workers of a cell must agree on `cell` and `slot_ttl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of the cell; the hash tag of every key.
    pub cell: String,
    /// The name of this worker, for people who look into Redis. Each start makes it unique.
    pub worker: String,
    /// How long a slot outlives the last heartbeat of its worker. A heartbeat comes every third of it.
    pub slot_ttl: Duration,
    /// How much of its rate a path may take from Redis at once.
    pub lease: Duration,
    /// The longest a call waits for Redis before it falls back to the local share.
    pub deadline: Duration,
    /// The longest an attempt to connect may take.
    pub connect_timeout: Duration,
    /// Up to how long after Redis is back a worker still keeps to its share, so that not all return at once.
    pub return_jitter: Duration,
    /// Among how many workers limits are shared before Redis has ever said how many there are.
    pub assumed_workers: u32,
}

impl Settings {
    /// The defaults for a worker of a cell.
    pub fn for_worker(cell: impl Into<String>, worker: impl Into<String>) -> Self {
        Self {
            cell: cell.into(),
            worker: worker.into(),
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cell: "default".to_owned(),
            worker: "worker".to_owned(),
            slot_ttl: Duration::from_secs(12),
            lease: Duration::from_millis(200),
            deadline: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            return_jitter: Duration::from_secs(1),
            assumed_workers: 4,
        }
    }
}
