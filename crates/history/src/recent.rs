//! The last ends that this process has marked itself: it knows them although Redis is away, or has lost its memory.
//!
//! Each for as long as its marker lives in Redis, because an idempotency key may name another message some day, and with it the
//! same job (ADR 12). And no more than there is room for: a broker that stands still has given a worker no more than its window,
//! while one that goes on may give back what so many others have ended behind.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::JobId;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Octets that all of it takes at most: some 30,000 ends.
const ROOM: u64 = 24 << 20;
/// Octets that an end takes beside its event, about.
const ENTRY: u32 = 512;

/// How a job ended, and for how long that is remembered.
#[derive(Clone)]
struct End {
    event: Bytes,
    ttl: Duration,
}

struct ByMarker;

impl Expiry<JobId, End> for ByMarker {
    fn expire_after_create(&self, _: &JobId, end: &End, _: Instant) -> Option<Duration> {
        Some(end.ttl)
    }

    fn expire_after_update(
        &self,
        _: &JobId,
        end: &End,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(end.ttl)
    }
}

pub(crate) struct Recent(Cache<JobId, End>);

impl Recent {
    pub(crate) fn new() -> Self {
        let weigh = |_: &JobId, end: &End| {
            u32::try_from(end.event.len()).map_or(u32::MAX, |octets| octets.saturating_add(ENTRY))
        };
        let ends = Cache::builder()
            .max_capacity(ROOM)
            .weigher(weigh)
            // Not by how often one was asked for, which is mostly never.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(ByMarker);
        Self(ends.build())
    }

    /// `job` has ended with `event`, whatever was known; for `ttl` from now on.
    pub(crate) fn set(&self, job: JobId, event: Bytes, ttl: Duration) {
        self.0.insert(job, End { event, ttl });
    }

    /// The same, unless an end of it is known: that is answered, and stays.
    pub(crate) fn set_first(&self, job: JobId, event: Bytes, ttl: Duration) -> Option<Bytes> {
        let known = self.0.entry(job).or_insert(End { event, ttl });
        (!known.is_fresh()).then(|| known.into_value().event)
    }

    /// The event that ended `job`, if this process had it end lately.
    pub(crate) fn get(&self, job: JobId) -> Option<Bytes> {
        self.0.get(&job).map(|end| end.event)
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recent")
            .field(&self.0.entry_count())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_last_are_remembered_and_take_no_more_than_their_room() {
        let (recent, event) = (Recent::new(), Bytes::from(vec![b'.'; 512]));
        let jobs: Vec<JobId> = (0..40_000).map(|_| JobId::fresh()).collect();
        for job in &jobs {
            recent.set(*job, event.clone(), LONG);
        }
        recent.0.run_pending_tasks();
        assert!(recent.0.weighted_size() <= ROOM);
        let last = &jobs[jobs.len() - 10_000..];
        let known = last.iter().filter(|job| recent.get(**job).is_some());
        assert_eq!(known.count(), last.len());
    }

    #[test]
    fn an_end_is_forgotten_with_its_marker() {
        let (recent, job, short) = (Recent::new(), JobId::fresh(), Duration::from_millis(20));
        recent.set(job, "delivered".into(), LONG);
        recent.set(job, "delivered".into(), short);
        std::thread::sleep(short * 2);
        assert_eq!(recent.get(job), None);
        assert_eq!(recent.set_first(job, "bounced".into(), LONG), None);
        let first = recent.set_first(job, "expired".into(), LONG);
        assert_eq!(first, Some("bounced".into()));
    }
}
