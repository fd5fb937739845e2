//! Messages and jobs that their senders cancelled.
//!
//! A tombstone stands in a KV bucket until nothing can need it. Every worker keeps a copy of all of them and looks before
//! it sends. Whoever cancels only asks: the worker that holds the job decides, and records the end (ADR 13). A job that
//! waits for its time is made due at once, so that it finds its tombstone.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::jetstream::{
    self,
    kv::{self, Operation, Store},
};
use futures_util::StreamExt as _;
use model::{Class, Domain, Job, JobId, MessageId, Tenant};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::streams::CANCELLED;
use crate::{Publisher, QueueError};

/// The pause before a watch that ended begins again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long reading what stands in the bucket may take.
const READING: Duration = Duration::from_secs(10);
/// After so many new tombstones the old ones are cleared away.
const SWEEP_EVERY: usize = 1024;

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

    /// Puts up the tombstone of a message: for all of its jobs, known or not.
    pub async fn cancel_message(&self, tenant: &Tenant, id: MessageId) -> Result<(), QueueError> {
        self.put(message_key(tenant, id)).await
    }

    /// Puts up the tombstone of `job`, and makes the job due if it waits for its time.
    pub async fn cancel_job(
        &self,
        tenant: &Tenant,
        class: Class,
        to: &Domain,
        job: JobId,
    ) -> Result<(), QueueError> {
        self.put(job_key(tenant, job)).await?;
        self.publisher.hasten(class, to, job).await
    }

    async fn put(&self, key: String) -> Result<(), QueueError> {
        self.store
            .put(key, "".into())
            .await
            .map(drop)
            .map_err(QueueError::refused)
    }
}

fn message_key(tenant: &Tenant, id: MessageId) -> String {
    format!("{tenant}.m.{id}")
}

fn job_key(tenant: &Tenant, id: JobId) -> String {
    format!("{tenant}.j.{id}")
}

/// Every tombstone there is; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tombstones {
    keys: Arc<RwLock<HashMap<String, Instant>>>,
    loaded: watch::Sender<bool>,
    kept: Duration,
}

impl Tombstones {
    /// No tombstones yet, and the task that follows the bucket, which keeps each for `kept`.
    pub(crate) fn follow(
        jetstream: jetstream::Context,
        kept: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let tombstones = Self {
            keys: Arc::default(),
            loaded: watch::Sender::new(false),
            kept,
        };
        (tombstones.clone(), tombstones.keep(jetstream))
    }

    /// Resolves once every tombstone that stood in the bucket is known.
    pub async fn loaded(&self) {
        // Fails only if the sender were gone, and this value holds it.
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Whether `job`, or the message it is a copy of, was cancelled.
    pub fn contain(&self, job: &Job) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        !keys.is_empty()
            && (keys.contains_key(&job_key(&job.tenant, job.id))
                || keys.contains_key(&message_key(&job.tenant, job.message_id)))
    }

    async fn keep(self, jetstream: jetstream::Context) {
        loop {
            if let Err(error) = self.watch(&jetstream).await {
                tracing::warn!(%error, "tombstones not followed, trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Follows the bucket, and reads what stands in it: in this order, so that nothing falls between.
    async fn watch(&self, jetstream: &jetstream::Context) -> Result<(), QueueError> {
        // A server that dies meanwhile leaves a reading that never ends, and every job waits for it.
        let reading = tokio::time::timeout(READING, self.read(jetstream));
        let mut entries = reading.await.map_err(|_| {
            let seconds = READING.as_secs();
            QueueError::Refused(format!("bucket {CANCELLED} not read within {seconds} s"))
        })??;
        self.loaded.send_replace(true);
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(QueueError::refused)?;
            match entry.operation {
                Operation::Put => self.insert(entry.key),
                Operation::Delete | Operation::Purge => self.remove(&entry.key),
            }
        }
        Ok(())
    }

    /// Everything that stands in the bucket; answers what comes after.
    async fn read(&self, jetstream: &jetstream::Context) -> Result<kv::Watch, QueueError> {
        let store = jetstream
            .get_key_value(CANCELLED)
            .await
            .map_err(QueueError::refused)?;
        let entries = store.watch_all().await.map_err(QueueError::refused)?;
        let mut standing = store.keys().await.map_err(QueueError::refused)?;
        while let Some(key) = standing.next().await {
            self.insert(key.map_err(QueueError::refused)?);
        }
        Ok(entries)
    }

    fn insert(&self, key: String) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key, Instant::now());
        // The bucket forgets by age and tells nobody.
        if keys.len().is_multiple_of(SWEEP_EVERY) {
            keys.retain(|_, since| since.elapsed() < self.kept);
        }
    }

    fn remove(&self, key: &str) {
        self.keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}
