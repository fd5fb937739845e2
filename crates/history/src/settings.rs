//! How long things are remembered, and how long a call may take.

use std::time::Duration;

/// What a history needs to know beside the address of its Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of the cell; the hash tag of every key.
    pub cell: String,
    /// How long a timeline is kept after its last event.
    pub retention: Duration,
    /// How long a marker is kept where the caller has no better idea: past the last redelivery of its job.
    pub marker_ttl: Duration,
    /// The longest a call waits for an answer.
    pub deadline: Duration,
    /// The longest a call that finds no connection waits for one.
    pub connect_timeout: Duration,
    /// How long calls fail at once after Redis failed, before the next one tries to connect.
    pub pause: Duration,
}

impl Settings {
    /// The defaults: 72 h of timelines, markers of 15 min, answers within 250 ms.
    pub fn for_cell(cell: impl Into<String>) -> Self {
        Self {
            cell: cell.into(),
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cell: "default".to_owned(),
            retention: Duration::from_secs(72 * 3600),
            marker_ttl: Duration::from_secs(15 * 60),
            deadline: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            pause: Duration::from_secs(1),
        }
    }
}
