//! Bodies that do not stand in their jobs: those too large to, in JetStream's object store, and those of jobs that wait,
//! each a message of its own in a stream.
//!
//! A body is stored before the job that names it, so a job never names what is not there. An age limit collects what no
//! job can need any more.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use async_nats::jetstream::{self, object_store::ObjectStore};
use bytes::Bytes;
use model::JobId;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

use crate::QueueError;
use crate::commit::{self, Entry};
use crate::group::{Committed, Group};
use crate::streams::{BODIES, WAITING_BODIES, waiting_body_subject};

/// How long reading a body may take.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// What the name of a waiting job's body begins with; the job's id follows.
const WAITING: &str = "waiting/";

/// The stores of bodies; cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    jetstream: jetstream::Context,
    store: ObjectStore,
    waiting: Stream<()>,
    aside: Arc<Group<Entry>>,
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blobs").finish_non_exhaustive()
    }
}

impl Blobs {
    pub(crate) async fn open(jetstream: &jetstream::Context) -> Result<Self, QueueError> {
        let store = jetstream
            .get_object_store(BODIES)
            .await
            .map_err(QueueError::refused)?;
        let waiting = jetstream
            .get_stream_no_info(WAITING_BODIES)
            .await
            .map_err(QueueError::refused)?;
        Ok(Self {
            jetstream: jetstream.clone(),
            store,
            waiting,
            aside: Arc::new(Group::new(commit::MOST)),
        })
    }

    /// Stores `body`, of any size, under `name`. Once this returns it is as safe as a published job.
    pub async fn put(&self, name: &str, body: &Bytes) -> Result<(), QueueError> {
        let mut reader = &body[..];
        self.store
            .put(name, &mut reader)
            .await
            .map(drop)
            .map_err(QueueError::refused)
    }

    /// Stores the body of a job that has to wait, and answers its name. A body as small as those in jobs are.
    ///
    /// Once this returns it is as safe as a published job. Repeated for the same job, it is stored once.
    pub async fn set_aside(&self, job: JobId, body: &Bytes) -> Result<String, QueueError> {
        let subject = waiting_body_subject(&job.to_string());
        let body = Entry {
            subject,
            headers: HeaderMap::new(),
            payload: body.clone(),
        };
        let store = |bodies: Vec<Entry>| async move {
            let stored = commit::store(&self.jetstream, &bodies).await;
            vec![stored; bodies.len()]
        };
        if self.aside.commit(body.clone(), store).await != Committed::Stored {
            commit::publish_one(&self.jetstream, &body).await?;
        }
        Ok(format!("{WAITING}{job}"))
    }

    /// Removes the body of a job that has waited and come to its end. A body that others may need stays.
    pub async fn remove(&self, name: &str) -> Result<(), QueueError> {
        let Some(job) = name.strip_prefix(WAITING) else {
            return Ok(());
        };
        self.waiting
            .purge()
            .filter(waiting_body_subject(job))
            .await
            .map(drop)
            .map_err(QueueError::refused)
    }

    /// The body stored under `name`.
    pub async fn get(&self, name: &str) -> Result<Bytes, QueueError> {
        // A body whose chunks are gone would otherwise be waited for without end.
        let read = tokio::time::timeout(READ_DEADLINE, self.read(name)).await;
        read.unwrap_or_else(|_| Err(QueueError::refused("the body was not read in time")))
    }

    async fn read(&self, name: &str) -> Result<Bytes, QueueError> {
        match name.strip_prefix(WAITING) {
            Some(job) => self.read_waiting(&waiting_body_subject(job)).await,
            None => self.read_large(name).await,
        }
    }

    /// Asks any copy of the stream, and where that one does not have it yet, the leader.
    async fn read_waiting(&self, subject: &str) -> Result<Bytes, QueueError> {
        match self.waiting.direct_get_last_for_subject(subject).await {
            Ok(message) => return Ok(message.payload),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
            Err(error) => return Err(QueueError::refused(error)),
        }
        let message = self.waiting.get_last_raw_message_by_subject(subject).await;
        message
            .map(|message| message.payload)
            .map_err(QueueError::refused)
    }

    async fn read_large(&self, name: &str) -> Result<Bytes, QueueError> {
        let mut object = self.store.get(name).await.map_err(QueueError::refused)?;
        let mut body = Vec::with_capacity(object.info().size);
        object
            .read_to_end(&mut body)
            .await
            .map_err(QueueError::refused)?;
        Ok(body.into())
    }
}
