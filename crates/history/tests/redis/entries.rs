//! Events of a test, as short as can be.

use bytes::Bytes;
use history::{History, Settings, TimelineEntry};
use model::{JobId, MessageId, Tenant, Timestamp};

use crate::server::RedisServer;

pub(crate) fn history(server: &RedisServer) -> History {
    History::connect(&server.url(), Settings::for_cell("test")).unwrap()
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

/// Number `second` of the events of `job`, which it also happened at.
pub(crate) fn entry(message: MessageId, job: JobId, second: i64) -> TimelineEntry {
    TimelineEntry {
        tenant: tenant("acme"),
        message,
        job,
        attempt: second.try_into().unwrap(),
        event_id: format!("{job}:{second}:deferred"),
        at: Timestamp::from_second(second).unwrap(),
        event: Bytes::from(second.to_string()),
    }
}

/// The numbers of events.
pub(crate) fn numbers(events: &[Bytes]) -> Vec<i64> {
    let text = |event: &Bytes| String::from_utf8(event.to_vec()).unwrap();
    events
        .iter()
        .map(|event| text(event).parse().unwrap())
        .collect()
}
