//! Stores jobs of one stream together: one atomic batch, one sync, one acknowledgement (ADR 18).
//!
//! A batch is stored whole or not at all; where it is not known to be stored, for whatever reason, each job is published
//! alone under its own id, which the stream keeps once.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE, NATS_MESSAGE_ID,
};
use async_nats::jetstream;
use bytes::Bytes;
use model::JobId;

use crate::QueueError;
use crate::group::{Committed, Item, Most};

/// Beyond so many jobs a sync is cheap already. Nobody waits for company.
pub(crate) const MOST: Most = Most {
    items: 64,
    octets: 1 << 20,
    pause: Duration::ZERO,
};

/// A job, or the body of one, on its way to a stream that keeps it once under its id.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    pub(crate) subject: String,
    pub(crate) id: String,
    pub(crate) payload: Bytes,
}

impl Keyed {
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, self.id.as_str());
        headers
    }
}

impl Item for Keyed {
    fn octets(&self) -> usize {
        self.payload.len()
    }
}

/// Stores all of `batch` or none.
pub(crate) async fn store(jetstream: &jetstream::Context, batch: &[Keyed]) -> Committed {
    let stored = match batch {
        [] => return Committed::Alone,
        [only] => publish_one(jetstream, only).await,
        [rest @ .., last] => publish_all(jetstream, rest, last).await,
    };
    match stored {
        Ok(()) => Committed::Stored,
        Err(error) => {
            tracing::debug!(%error, jobs = batch.len(), "jobs not committed together, publishing each alone");
            Committed::Alone
        }
    }
}

pub(crate) async fn publish_one(
    jetstream: &jetstream::Context,
    job: &Keyed,
) -> Result<(), QueueError> {
    let (subject, payload) = (job.subject.clone(), job.payload.clone());
    jetstream
        .publish_with_headers(subject, job.headers(), payload)
        .await?
        .await?;
    Ok(())
}

/// One atomic batch (ADR-50 of NATS): `rest` without an answer, and `last`, which commits.
async fn publish_all(
    jetstream: &jetstream::Context,
    rest: &[Keyed],
    last: &Keyed,
) -> Result<(), QueueError> {
    let (id, size) = (JobId::fresh().to_string(), rest.len() + 1);
    let headers = |sequence: usize, job: &Keyed| {
        let mut headers = job.headers();
        headers.insert(NATS_BATCH_ID, id.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, sequence.to_string());
        headers
    };
    let client = jetstream.client();
    for (index, job) in rest.iter().enumerate() {
        let headers = headers(index + 1, job);
        client
            .publish_with_headers(job.subject.clone(), headers, job.payload.clone())
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
