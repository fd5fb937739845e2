//! Whether the servers have room for what the streams may hold.
//!
//! After its disk is full a nats-server needs a restart, so it must never get there. Ready jobs and events have limits,
//! and these take at most half of a server's storage; the other half is for what has none: deferred jobs and bodies.

use model::ByteSize;

use crate::{Settings, SetupError};

/// Refuses limits that add up to more than half of the smallest server's storage. With as many copies as servers each
/// holds all of it.
pub(crate) fn check(settings: &Settings, smallest_storage: u64) -> Result<(), SetupError> {
    let (ready, events) = (settings.ready_bytes, settings.event_bytes);
    if ready.0.saturating_add(events.0) <= smallest_storage / 2 {
        return Ok(());
    }
    Err(SetupError::OverBudget {
        ready,
        events,
        half: ByteSize(smallest_storage / 2),
    })
}
