//! What a provider remembers of attempts: who came when for the first time.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// How many first attempts are remembered. One more, and all are forgotten, so that the memory stays small.
const MOST: usize = 1 << 20;

/// First attempts, by a hash of what was attempted.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    hasher: RandomState,
    first: Mutex<HashMap<u64, Instant>>,
}

impl Memory {
    /// When `attempt` was made for the first time; none if that is now.
    pub(crate) fn first_attempt(&self, attempt: impl Hash, now: Instant) -> Option<Instant> {
        let key = self.hasher.hash_one(attempt);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = first.get(&key) {
            return Some(*earlier);
        }
        if first.len() >= MOST {
            first.clear();
        }
        first.insert(key, now);
        None
    }
}
