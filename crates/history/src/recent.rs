//! The last ends that this process has marked itself: it knows them although Redis is away, or has lost its memory.
//!
//! Bounded by memory and not by time: what is not settled is in a worker's window, and this holds several windows.

use std::fmt;

use bytes::Bytes;
use model::JobId;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Octets that all of it takes at most.
const ROOM: u64 = 32 << 20;
/// Octets of an entry beside its event's, about.
const ENTRY: u32 = 256;

pub(crate) struct Recent(Cache<JobId, Bytes>);

impl Recent {
    pub(crate) fn new() -> Self {
        let weigh = |_: &JobId, event: &Bytes| {
            u32::try_from(event.len()).map_or(u32::MAX, |octets| octets.saturating_add(ENTRY))
        };
        let ends = Cache::builder()
            .max_capacity(ROOM)
            .weigher(weigh)
            // The newest is the one that is asked for.
            .eviction_policy(EvictionPolicy::lru());
        Self(ends.build())
    }

    /// `job` has ended with `event`.
    pub(crate) fn insert(&self, job: JobId, event: Bytes) {
        self.0.insert(job, event);
    }

    /// The event that ended `job`, if this process had it end lately.
    pub(crate) fn get(&self, job: JobId) -> Option<Bytes> {
        self.0.get(&job)
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

    #[test]
    fn the_last_are_remembered_and_take_no_more_than_their_room() {
        let (recent, event) = (Recent::new(), Bytes::from(vec![b'.'; 1024]));
        let jobs: Vec<JobId> = (0..40_000).map(|_| JobId::fresh()).collect();
        for job in &jobs {
            recent.insert(*job, event.clone());
        }
        recent.0.run_pending_tasks();
        assert!(recent.0.weighted_size() <= ROOM);
        let last = &jobs[jobs.len() - 10_000..];
        let known = last.iter().filter(|job| recent.get(**job).is_some());
        assert_eq!(known.count(), last.len());
    }
}
