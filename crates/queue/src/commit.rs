//! Stores messages of one stream together: one atomic batch, one sync, one acknowledgement (ADR 18).
//!
//! A batch that is acknowledged is stored whole. Where it is not known to be stored, for whatever reason, each message is
//! published alone, and its stream keeps it once: by its id or by its subject. nats-server (2.15.1) stores the first messages of
//! a batch, answers nothing, and leaves it at that, where its storage is full before it has come to the last.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE, NATS_MESSAGE_ID,
};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::future::join_all;
use model::JobId;

use crate::QueueError;
use crate::group::{Committed, Item, Most};

/// Beyond so many jobs a sync is cheap already. Nobody waits for company.
pub(crate) const MOST: Most = Most {
    items: 64,
    octets: 1 << 20,
    pause: Duration::ZERO,
};

/// Fewer go side by side, each by itself: a nats-server makes a store of its own for every batch, which costs as much as
/// some messages do.
const LEAST: usize = 8;

/// A message on its way to a stream.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

impl Entry {
    /// One that its stream keeps once under `id`.
    pub(crate) fn once(subject: String, id: &str, payload: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        Self {
            subject,
            headers,
            payload,
        }
    }
}

impl Item for Entry {
    fn octets(&self) -> usize {
        self.payload.len()
    }
}

/// Stores all of `batch` together, and a few one by one; what became of each.
pub(crate) async fn store(jetstream: &jetstream::Context, batch: &[Entry]) -> Vec<Committed> {
    if batch.len() < LEAST {
        return join_all(batch.iter().map(|entry| store_one(jetstream, entry))).await;
    }
    let outcome = match store_all(jetstream, batch).await {
        Ok(()) => Committed::Stored,
        Err(error) => {
            tracing::debug!(%error, messages = batch.len(), "not committed together, publishing each alone");
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

/// Stores all of `batch`. An error does not say how much is stored: of what is, nothing is missing in front.
pub(crate) async fn store_all(
    jetstream: &jetstream::Context,
    batch: &[Entry],
) -> Result<(), QueueError> {
    match batch {
        [] => Ok(()),
        [only] => publish_one(jetstream, only).await,
        [rest @ .., last] => publish_all(jetstream, rest, last).await,
    }
}

pub(crate) async fn publish_one(
    jetstream: &jetstream::Context,
    entry: &Entry,
) -> Result<(), QueueError> {
    let Entry {
        subject,
        headers,
        payload,
    } = entry.clone();
    jetstream
        .publish_with_headers(subject, headers, payload)
        .await?
        .await?;
    Ok(())
}

/// One atomic batch (ADR-50 of NATS): `rest` without an answer, and `last`, which commits.
async fn publish_all(
    jetstream: &jetstream::Context,
    rest: &[Entry],
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
    for (index, entry) in rest.iter().enumerate() {
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
