//! Stores jobs, schedules and bodies of one stream together: one atomic batch, one sync, one acknowledgement (ADR 18, ADR 20).
//!
//! Nobody waits for company: an entry that finds nothing on its way is stored at once. Those that come meanwhile gather,
//! and the next of them to have its turn commits them all. A batch is stored whole or not at all; where it is not known
//! to be stored, for whatever reason, each entry is published alone, as its stream keeps it once: by its id or by its subject.
//!
//! Owns no task: the caller whose turn it is does the work for all. A caller that gives up half-way leaves the others
//! to publish for themselves.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::future::join_all;
use model::{Class, JobId};
use tokio::sync::oneshot;

use crate::{Lane, LaneMap, QueueError, Stage};

/// The most entries of a batch: beyond it a sync is cheap already.
const BATCH_JOBS: usize = 64;
/// Fewer go side by side, each by itself: a nats-server makes a store of its own for every batch, which costs as much as
/// some messages do.
const BATCH_LEAST: usize = 8;
/// The most octets of a batch, unless its one entry is larger.
const BATCH_BYTES: usize = 1 << 20;

/// A message on its way to a stream.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// What became of an entry in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is stored.
    Stored,
    /// It may be or not: it is to be published alone.
    Alone,
}

/// The groups of all lane streams.
#[derive(Debug)]
pub(crate) struct Groups(HashMap<(Lane, Class, Stage), Group>);

impl Groups {
    pub(crate) fn of(lanes: &LaneMap) -> Self {
        let mut groups = HashMap::new();
        for lane in lanes.lanes() {
            for class in Class::ALL {
                for stage in lane.stages() {
                    groups.insert((lane.clone(), class, *stage), Group::default());
                }
            }
        }
        Self(groups)
    }

    pub(crate) fn group(&self, lane: &Lane, class: Class, stage: Stage) -> Option<&Group> {
        self.0.get(&(lane.clone(), class, stage))
    }
}

/// What waits for one stream.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Whose turn it is to commit.
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    entry: Entry,
    outcome: oneshot::Sender<Committed>,
}

impl Group {
    /// Stores `entry` together with others, or says that it is to be published alone.
    pub(crate) async fn commit(&self, jetstream: &jetstream::Context, entry: &Entry) -> Committed {
        let (outcome, mut told) = oneshot::channel();
        let entry = entry.clone();
        self.lock().push(Waiting { entry, outcome });
        let _turn = tokio::select! {
            biased;
            outcome = &mut told => return outcome.unwrap_or(Committed::Alone),
            turn = self.turn.lock() => turn,
        };
        loop {
            // Those before us may have taken ours along and not be done telling.
            match told.try_recv() {
                Ok(outcome) => return outcome,
                Err(oneshot::error::TryRecvError::Closed) => return Committed::Alone,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let batch = self.take();
            let outcomes = store(jetstream, &batch).await;
            for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                // Nobody may be waiting for this one; it is stored all the same.
                let _ = waiting.outcome.send(outcome);
            }
        }
    }

    /// The next batch: what came first.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let fits = waiting.iter().take(BATCH_JOBS).take_while(|next| {
            bytes += next.entry.payload.len();
            bytes <= BATCH_BYTES
        });
        let count = fits.count().max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores all of `batch` or none, and a few one by one; what became of each.
async fn store(jetstream: &jetstream::Context, batch: &[Waiting]) -> Vec<Committed> {
    let (rest, last) = match batch {
        [rest @ .., last] if batch.len() >= BATCH_LEAST => (rest, last),
        few => {
            let alone = few.iter().map(|waiting| &waiting.entry);
            return join_all(alone.map(|entry| store_one(jetstream, entry))).await;
        }
    };
    let outcome = match publish_all(jetstream, rest, &last.entry).await {
        Ok(()) => Committed::Stored,
        Err(error) => {
            tracing::debug!(%error, entries = batch.len(), "not committed together, publishing each alone");
            Committed::Alone
        }
    };
    vec![outcome; batch.len()]
}

async fn store_one(jetstream: &jetstream::Context, entry: &Entry) -> Committed {
    match publish_one(jetstream, entry).await {
        Ok(()) => Committed::Stored,
        Err(error) => {
            tracing::debug!(%error, "not stored at once, publishing again");
            Committed::Alone
        }
    }
}

async fn publish_one(jetstream: &jetstream::Context, entry: &Entry) -> Result<(), QueueError> {
    let Entry {
        subject,
        headers,
        payload,
    } = entry.clone();
    let stored = jetstream.publish_with_headers(subject, headers, payload);
    if stored.await?.await?.duplicate {
        return Err(QueueError::refused("the stream took it for a repetition"));
    }
    Ok(())
}

/// One atomic batch (ADR-50 of NATS): `rest` without an answer, and `last`, which commits.
async fn publish_all(
    jetstream: &jetstream::Context,
    rest: &[Waiting],
    last: &Entry,
) -> Result<(), QueueError> {
    let (id, size) = (JobId::fresh().to_string(), rest.len() + 1);
    let headers = |sequence: usize, entry: &Entry| {
        let mut headers = entry.headers.clone();
        headers.insert(NATS_BATCH_ID, id.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, sequence.to_string());
        headers
    };
    let client = jetstream.client();
    for (index, Waiting { entry, .. }) in rest.iter().enumerate() {
        let headers = headers(index + 1, entry);
        client
            .publish_with_headers(entry.subject.clone(), headers, entry.payload.clone())
            .await
            .map_err(QueueError::refused)?;
    }
    let mut headers = headers(size, last);
    headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
    let stored = jetstream
        .publish_with_headers(last.subject.clone(), headers, last.payload.clone())
        .await?
        .await?;
    if stored.batch_size == Some(size as u64) {
        Ok(())
    } else {
        let told = stored.batch_size;
        Err(QueueError::Refused(format!(
            "a batch of {size} was acknowledged as one of {told:?}"
        )))
    }
}
