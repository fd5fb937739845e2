//! Remembers what DNS said, for as long as it said, and asks once however many want to know.
//!
//! Owns the only copy of an answer. Never asks DNS itself: the caller brings the question as a future.
//! Invariant: of one key there is at most one question in flight; the others wait for its answer.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Timestamp};
use moka::future::Cache as Bounded;
use tokio::sync::Mutex;

use crate::RouteError;

/// An answer is kept at least this long, whatever its TTL, so that a TTL of 0 cannot make us ask for every job.
const LEAST: Duration = Duration::from_secs(10);
/// An answer is kept at most this long, so that a slip in somebody's zone does not follow us for a month.
const MOST: Duration = Duration::from_secs(24 * 3600);
/// An answer that there is nothing is kept at most this long: mended zones should be noticed soon.
const MOST_NEGATIVE: Duration = Duration::from_secs(300);

/// What a question brought, and for how long it holds.
pub(crate) struct Answer<V> {
    pub(crate) value: Result<V, RouteError>,
    pub(crate) ttl: Duration,
}

impl<V> Answer<V> {
    /// An answer that holds for `ttl`.
    pub(crate) fn new(value: Result<V, RouteError>, ttl: Duration) -> Self {
        Self { value, ttl }
    }

    fn lifetime(&self) -> Duration {
        match &self.value {
            Ok(_) => self.ttl.clamp(LEAST, MOST),
            Err(error) if error.is_an_answer() => self.ttl.clamp(LEAST, MOST_NEGATIVE),
            Err(_) => LEAST,
        }
    }
}

/// Answers by name.
pub(crate) struct Cache<V: Clone + Send + Sync + 'static> {
    slots: Bounded<String, Arc<Mutex<Option<Entry<V>>>>>,
    serve_stale: Duration,
    clock: Arc<dyn Clock>,
}

struct Entry<V> {
    value: Result<V, RouteError>,
    known_at: Timestamp,
    lifetime: Duration,
    usable_until: Timestamp,
}

impl<V> Entry<V> {
    /// A clock that was set back makes the entry old, not young.
    fn is_fresh(&self, now: Timestamp) -> bool {
        Duration::try_from(now.duration_since(self.known_at)).is_ok_and(|age| age < self.lifetime)
    }
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    pub(crate) fn new(capacity: u64, serve_stale: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            slots: Bounded::new(capacity),
            serve_stale,
            clock,
        }
    }

    /// What is known under `key`, or what `ask` finds out.
    ///
    /// Where DNS fails, the last good value serves on, for as long as the settings allow.
    pub(crate) async fn get<F>(&self, key: &str, ask: impl FnOnce() -> F) -> Result<V, RouteError>
    where
        F: Future<Output = Answer<V>>,
    {
        let slot = self
            .slots
            .get_with_by_ref(key, async { Arc::default() })
            .await;
        let mut entry = slot.lock().await;
        if let Some(known) = entry
            .as_ref()
            .filter(|known| known.is_fresh(self.clock.now()))
        {
            return known.value.clone();
        }
        let answer = ask().await;
        let next = self.replace(key, entry.take(), answer);
        let value = next.value.clone();
        *entry = Some(next);
        value
    }

    /// The entry that stands after `answer` came in for `known`.
    fn replace(&self, key: &str, known: Option<Entry<V>>, answer: Answer<V>) -> Entry<V> {
        let now = self.clock.now();
        let usable = |known: &Entry<V>| known.value.is_ok() && now < known.usable_until;
        if let Err(error) = &answer.value
            && !error.is_an_answer()
            && let Some(known) = known.filter(usable)
        {
            tracing::warn!(name = key, %error, "dns fails, using what it said before");
            return Entry {
                known_at: now,
                lifetime: LEAST,
                ..known
            };
        }
        let lifetime = answer.lifetime();
        let until = lifetime.saturating_add(self.serve_stale);
        Entry {
            value: answer.value,
            known_at: now,
            lifetime,
            usable_until: now.saturating_add(until).unwrap_or(Timestamp::MAX),
        }
    }
}
