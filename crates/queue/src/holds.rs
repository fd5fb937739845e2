//! The table of pulled jobs, and the heartbeat that keeps them from being given to another worker.
//!
//! An in-progress acknowledgement proves nothing by itself: the broker takes late ones in silence. So each round ends,
//! for every stream, with one that asks for a reply, and only its answer proves the holds of that stream, as of the
//! moment the round began (ADR 10).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use tokio::time::Instant;

use crate::QueueError;

/// The share of `ack_wait` that must be left when a hold is relied on.
const MARGIN: u32 = 3;

/// A stream and a sequence in it: what the broker knows a job by.
type Key = (Arc<str>, u64);

struct Entry {
    acker: Arc<Acker>,
    proven_at: Instant,
}

/// What this process holds; cheap to clone.
#[derive(Clone)]
pub struct Holds {
    entries: Arc<Mutex<HashMap<Key, Entry>>>,
    ack_wait: Duration,
}

impl std::fmt::Debug for Holds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holds")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl Holds {
    /// An empty table, and the heartbeat to run beside it.
    pub(crate) fn new(ack_wait: Duration) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let holds = Self {
            entries: Arc::default(),
            ack_wait,
        };
        (holds.clone(), holds.keep())
    }

    /// Holds a job that a pull begun at `pulled_at` brought. A redelivery of a held sequence refreshes the hold and
    /// answers `None`: the job is already in hand.
    pub(crate) fn take(
        &self,
        stream: &Arc<str>,
        sequence: u64,
        acker: Acker,
        pulled_at: Instant,
    ) -> Option<Hold> {
        let key = (Arc::clone(stream), sequence);
        let entry = Entry {
            acker: Arc::new(acker),
            proven_at: pulled_at,
        };
        let known = self.lock().insert(key.clone(), entry).is_some();
        (!known).then(|| Hold {
            key,
            holds: self.clone(),
        })
    }

    /// How many jobs are held.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    async fn keep(self) {
        let mut rounds = tokio::time::interval(self.ack_wait / 3);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.beat().await;
        }
    }

    /// One round: a sign of life for every job, and a proof for every stream.
    async fn beat(&self) {
        let began = Instant::now();
        let mut streams: HashMap<Arc<str>, Vec<(u64, Arc<Acker>)>> = HashMap::new();
        for ((stream, sequence), entry) in self.lock().iter() {
            streams
                .entry(Arc::clone(stream))
                .or_default()
                .push((*sequence, Arc::clone(&entry.acker)));
        }
        for (stream, held) in streams {
            match prove(&held).await {
                Ok(()) => self.proven(&stream, &held, began),
                Err(error) => {
                    tracing::warn!(%stream, %error, held = held.len(), "holds not proven")
                }
            }
        }
    }

    fn proven(&self, stream: &Arc<str>, held: &[(u64, Arc<Acker>)], at: Instant) {
        let mut entries = self.lock();
        for (sequence, _) in held {
            if let Some(entry) = entries.get_mut(&(Arc::clone(stream), *sequence)) {
                entry.proven_at = entry.proven_at.max(at);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In-progress for every job, the last of them as a question.
async fn prove(held: &[(u64, Arc<Acker>)]) -> Result<(), QueueError> {
    let Some(((_, last), rest)) = held.split_last() else {
        return Ok(());
    };
    for (_, acker) in rest {
        acker
            .ack_with(AckKind::Progress)
            .await
            .map_err(QueueError::refused)?;
    }
    last.double_ack_with(AckKind::Progress)
        .await
        .map_err(QueueError::refused)
}

/// One held job. Dropping it ends the hold: the broker gives the job to somebody after `ack_wait`.
#[derive(Debug)]
pub struct Hold {
    key: Key,
    holds: Holds,
}

impl Hold {
    /// Whether the broker is sure to keep the job for us for a while yet: asked before the final dot.
    pub fn is_proven(&self) -> bool {
        let entries = self.holds.lock();
        let Some(entry) = entries.get(&self.key) else {
            return false;
        };
        entry.proven_at.elapsed() < self.holds.ack_wait - self.holds.ack_wait / MARGIN
    }

    /// Settles the job: the broker forgets it.
    pub async fn settle(self) -> Result<(), QueueError> {
        self.answer(AckKind::Ack).await
    }

    /// Gives the job back, for another worker to take at once.
    pub async fn release(self) -> Result<(), QueueError> {
        self.answer(AckKind::Nak(None)).await
    }

    /// Gives the job back, for another worker to take after `delay`.
    pub async fn postpone(self, delay: Duration) -> Result<(), QueueError> {
        self.answer(AckKind::Nak(Some(delay))).await
    }

    async fn answer(self, kind: AckKind) -> Result<(), QueueError> {
        let acker = self
            .holds
            .lock()
            .get(&self.key)
            .map(|entry| Arc::clone(&entry.acker));
        match acker {
            Some(acker) => acker.ack_with(kind).await.map_err(QueueError::refused),
            None => Ok(()),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.lock().remove(&self.key);
    }
}
