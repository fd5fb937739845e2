//! Takes jobs out of the queue, in batches bounded by count and bytes.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use model::Class;
use tokio::time::Instant;

use crate::streams::WORKERS;
use crate::{Hold, Holds, Lane, QueueError, Stage};

/// How long a pull waits for jobs. Also bounds how stale the proof of a fresh hold is.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of one pull.
const BATCH_BYTES: usize = 8 << 20;

/// A job as it came from the queue.
#[derive(Debug)]
pub struct Pulled {
    /// The bytes that were published.
    pub payload: Bytes,
    /// Whether it may have been in other hands before: delivered more than once.
    pub redelivered: bool,
    /// Whether it waited for its time, or is fresh.
    pub stage: Stage,
    /// Whether it came through an overflow lane: a repeated call may have put the same job into its domain's lane.
    pub overflowed: bool,
    /// The claim on it.
    pub hold: Hold,
}

/// Takes jobs out of one stream.
#[derive(Debug)]
pub struct Puller {
    consumer: PullConsumer,
    stream: Arc<str>,
    stage: Stage,
    overflow: bool,
    holds: Holds,
}

impl Puller {
    pub(crate) async fn open(
        jetstream: &jetstream::Context,
        lane: &Lane,
        class: Class,
        stage: Stage,
        holds: Holds,
    ) -> Result<Self, QueueError> {
        let stream = lane.stream(class, stage);
        let consumer = jetstream
            .get_consumer_from_stream(WORKERS, &stream)
            .await
            .map_err(QueueError::refused)?;
        Ok(Self {
            consumer,
            stream: stream.into(),
            stage,
            overflow: lane.is_overflow(),
            holds,
        })
    }

    /// The stream it pulls from.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Up to `limit` jobs as they come; ends when there were that many or after two seconds.
    pub async fn pull(
        &self,
        limit: usize,
    ) -> Result<impl Stream<Item = Result<Pulled, QueueError>> + '_, QueueError> {
        let began = Instant::now();
        let batch = self
            .consumer
            .batch()
            .max_messages(limit)
            .max_bytes(BATCH_BYTES)
            .expires(PATIENCE)
            .messages()
            .await
            .map_err(QueueError::refused)?;
        Ok(batch.filter_map(move |message| async move {
            match message {
                Ok(message) => self.hold(message, began).transpose(),
                Err(error) => Some(Err(QueueError::Refused(error.to_string()))),
            }
        }))
    }

    fn hold(
        &self,
        message: jetstream::Message,
        began: Instant,
    ) -> Result<Option<Pulled>, QueueError> {
        let info = message.info().map_err(QueueError::refused)?;
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        let (message, acker) = message.split();
        let Some(hold) = self.holds.take(&self.stream, sequence, acker, began) else {
            return Ok(None);
        };
        Ok(Some(Pulled {
            payload: message.payload,
            redelivered: delivered > 1,
            stage: self.stage,
            overflowed: self.overflow,
            hold,
        }))
    }
}
