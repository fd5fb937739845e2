//! Puts ready jobs into the queue. Those that are to wait: `schedules.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, publish::PublishAck};
use bytes::Bytes;
use model::{Class, Domain, JobId};
use tokio::sync::Semaphore;

use crate::bundle::{self, Finder, WaitingJob};
use crate::commit::{self, Entry};
use crate::group::{Committed, Groups};
use crate::{Lane, LaneMap, QueueError, Stage};

/// The header of a job that may have been stored before.
pub(crate) const REPEATED: &str = "Postrider-Repeated";

/// How often an unacknowledged publish is repeated, and how long to wait before.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(1500),
];

/// Far below what nats-server takes, 50 batches of one stream.
const UNPACKING: usize = 8;
/// With thousands at once, after the queue was away, a nats-server drops what it cannot take in, and each repetition makes
/// that worse.
const ALONE: usize = 64;

/// Puts jobs into the queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    pub(crate) jetstream: jetstream::Context,
    pub(crate) lanes: LaneMap,
    ready: Arc<Groups<Entry>>,
    pub(crate) waiting: Arc<Groups<WaitingJob>>,
    /// By stream.
    pub(crate) finders: Arc<HashMap<String, Finder>>,
    /// How many bundles are unpacked at once: the broker takes so many batches of a stream.
    pub(crate) unpacking: Arc<Semaphore>,
    /// How many schedules are stored alone at once, when they were not together.
    pub(crate) alone: Arc<Semaphore>,
}

impl Publisher {
    pub(crate) fn new(jetstream: jetstream::Context, lanes: LaneMap) -> Self {
        let finder = |lane: &Lane, class| (lane.stream(class, Stage::Deferred), Finder::default());
        let finders = lanes
            .lanes()
            .flat_map(|lane| Class::ALL.map(|class| finder(lane, class)))
            .collect();
        Self {
            jetstream,
            ready: Arc::new(Groups::of(&lanes, commit::MOST)),
            waiting: Arc::new(Groups::of(&lanes, bundle::MOST)),
            finders: Arc::new(finders),
            unpacking: Arc::new(Semaphore::new(UNPACKING)),
            alone: Arc::new(Semaphore::new(ALONE)),
            lanes,
        }
    }

    /// Which lane takes what.
    pub fn lanes(&self) -> &LaneMap {
        &self.lanes
    }

    /// Makes a job ready in `lane`. Once this returns, the job is stored and synced on a quorum.
    ///
    /// Repeating it in the same lane with the same job id within five minutes stores the job once. Jobs that come while
    /// others of their stream are being stored are committed together, and synced once for all (ADR 18).
    pub async fn ready(
        &self,
        lane: &Lane,
        class: Class,
        to: &Domain,
        job: JobId,
        payload: Bytes,
    ) -> Result<(), QueueError> {
        let entry = Entry::once(lane.ready_subject(class, to), &job.to_string(), payload);
        self.store_ready(lane, class, entry).await
    }

    /// The same for a job that an earlier call may have stored, in this lane or another: whoever pulls it takes it for
    /// [redelivered](crate::Pulled::redelivered).
    pub async fn ready_again(
        &self,
        lane: &Lane,
        class: Class,
        to: &Domain,
        job: JobId,
        payload: Bytes,
    ) -> Result<(), QueueError> {
        let mut entry = Entry::once(lane.ready_subject(class, to), &job.to_string(), payload);
        entry.headers.insert(REPEATED, "1");
        self.store_ready(lane, class, entry).await
    }

    async fn store_ready(&self, lane: &Lane, class: Class, job: Entry) -> Result<(), QueueError> {
        let store = |jobs: Vec<Entry>| async move { commit::store(&self.jetstream, &jobs).await };
        let stored = match self.ready.group(lane, class) {
            Some(group) => group.commit(job.clone(), store).await,
            None => Committed::Alone,
        };
        match stored {
            Committed::Stored => Ok(()),
            Committed::Alone | Committed::Unknown => self.publish(job).await.map(drop),
        }
    }

    /// Publishes until it is acknowledged, a few times at most.
    pub(crate) async fn publish(&self, entry: Entry) -> Result<PublishAck, QueueError> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.publish_once(entry.clone()).await {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if error.is_transient() => tokio::time::sleep(*pause).await,
                Some(_) | None => return Err(error),
            }
        }
    }

    pub(crate) async fn publish_once(&self, entry: Entry) -> Result<PublishAck, QueueError> {
        let acknowledged = self
            .jetstream
            .publish_with_headers(entry.subject, entry.headers, entry.payload)
            .await?;
        Ok(acknowledged.await?)
    }
}
