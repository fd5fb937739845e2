//! Remembers what recently became of jobs: markers of finished ones, notes of attempts that may end badly, and timelines
//! to answer questions from.
//!
//! Owns the keys `{cell}:done:*`, `{cell}:reserved:*`, `{cell}:intent:*`, `{cell}:job:*`, `{cell}:msg:*` and `{cell}:idem:*` in Redis. Never decodes an event: the services
//! hand in bytes and get the same bytes back. Never the only copy of anything: a marker lost costs at most a
//! duplicate, a timeline lost an answer (ADR 1). The last ends that a process has marked it also knows by itself.
//!
//! Promises:
//! - no call waits for Redis longer than [`Settings`] say; while Redis is away calls fail at once and callers carry on, but
//!   for markers that the process wrote itself;
//! - writing an entry twice is writing it once;
//! - what one tenant wrote, no other tenant finds;
//! - every key expires, and neither a job nor a message grows without bound.

mod error;
mod eviction;
mod idempotency;
mod intent;
mod keys;
mod link;
mod marker;
mod recent;
mod reservation;
mod settings;
mod timeline;

pub use error::HistoryError;
pub use idempotency::Claim;
pub use settings::Settings;
pub use timeline::{Timeline, TimelineEntry};

use std::sync::Arc;

use keys::Keys;
use link::Link;
use recent::Recent;
use uuid::Uuid;

/// A handle to what Redis remembers. Clones share one connection, and what this process marked itself.
#[derive(Debug, Clone)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    link: Link,
    keys: Keys,
    settings: Settings,
    recent: Recent,
    /// Tells this process from all others.
    process: String,
}

impl History {
    /// A history in the Redis at `url`, such as `redis://redis:6379`, `rediss://…` or `redis+unix:///run/redis.sock`.
    ///
    /// Does not connect: the first call does. Fails only where `url` is not one.
    pub fn connect(url: &str, settings: Settings) -> Result<Self, HistoryError> {
        let link = Link::open(url, &settings)?;
        let keys = Keys::of(&settings.cell);
        Ok(Self {
            inner: Arc::new(Inner {
                link,
                keys,
                settings,
                recent: Recent::new(),
                process: Uuid::now_v7().to_string(),
            }),
        })
    }
}
