//! Bodies too large to stand in a job, in JetStream's object store.
//!
//! A body is stored before the job that names it, so a job never names what is not there. The bucket's own age limit
//! collects bodies once no job can need them.

use async_nats::jetstream::{self, object_store::ObjectStore};
use bytes::Bytes;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

use crate::QueueError;
use crate::streams::BODIES;

/// How long reading a body may take.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// The store of large bodies; cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    store: ObjectStore,
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
        Ok(Self { store })
    }

    /// Stores `body` under `name`. Once this returns it is as safe as a published job.
    pub async fn put(&self, name: &str, body: &Bytes) -> Result<(), QueueError> {
        let mut reader = &body[..];
        self.store
            .put(name, &mut reader)
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
        let mut object = self.store.get(name).await.map_err(QueueError::refused)?;
        let mut body = Vec::with_capacity(object.info().size);
        object
            .read_to_end(&mut body)
            .await
            .map_err(QueueError::refused)?;
        Ok(body.into())
    }
}
