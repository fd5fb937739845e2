//! Jobs that their senders cancelled.
//!
//! A tombstone stands in a KV bucket until no job can need it. Every worker keeps a copy of all of them and looks
//! before it sends. Whoever cancels only asks: the worker that holds the job decides, and records the end. A job that
//! waits for its time is made due at once, so that it finds its tombstone.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::jetstream::{
    self,
    kv::{Operation, Store},
};
use futures_util::StreamExt as _;
use model::{Class, Domain, JobId, Timestamp};

use crate::streams::CANCELLED;
use crate::{Publisher, QueueError};

/// The pause before a watch that ended begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks for jobs to be cancelled; cheap to clone.
#[derive(Debug, Clone)]
pub struct Canceller {
    store: Store,
    publisher: Publisher,
}

impl Canceller {
    pub(crate) async fn open(
        jetstream: &jetstream::Context,
        publisher: Publisher,
    ) -> Result<Self, QueueError> {
        let store = jetstream
            .get_key_value(CANCELLED)
            .await
            .map_err(QueueError::refused)?;
        Ok(Self { store, publisher })
    }

    /// Puts up the tombstone of `job`, and makes the job due if it waits for its time.
    pub async fn cancel(&self, class: Class, to: &Domain, job: JobId) -> Result<(), QueueError> {
        self.store
            .put(job.to_string(), "".into())
            .await
            .map_err(QueueError::refused)?;
        if let Some(payload) = self.publisher.pending_schedule(class, to, job).await? {
            // Where the schedule fires at this moment, this one is a twin, and finds the marker of the first.
            self.publisher
                .schedule(class, to, job, Timestamp::UNIX_EPOCH, payload)
                .await?;
        }
        Ok(())
    }
}

/// Every tombstone there is; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tombstones {
    jobs: Arc<RwLock<HashSet<JobId>>>,
}

impl Tombstones {
    /// No tombstones yet, and the task that follows the bucket.
    pub(crate) fn follow(
        jetstream: jetstream::Context,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let tombstones = Self::default();
        (tombstones.clone(), tombstones.keep(jetstream))
    }

    /// Whether `job` was cancelled.
    pub fn contains(&self, job: JobId) -> bool {
        self.jobs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&job)
    }

    async fn keep(self, jetstream: jetstream::Context) {
        loop {
            if let Err(error) = self.watch(&jetstream).await {
                tracing::warn!(%error, "tombstones not followed, trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn watch(&self, jetstream: &jetstream::Context) -> Result<(), QueueError> {
        let store = jetstream
            .get_key_value(CANCELLED)
            .await
            .map_err(QueueError::refused)?;
        let mut entries = store
            .watch_with_history(">")
            .await
            .map_err(QueueError::refused)?;
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(QueueError::refused)?;
            let Ok(job) = entry.key.parse() else { continue };
            let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
            match entry.operation {
                Operation::Put => jobs.insert(job),
                Operation::Delete | Operation::Purge => jobs.remove(&job),
            };
        }
        Ok(())
    }
}
