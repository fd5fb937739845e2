//! The EVENTS stream: written in batches, read from any point.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use model::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::QueueError;
use crate::streams::{EVENT_SUBJECT, EVENTS};

/// How long a batch waits for more events after its first: every batch is synced, and those who read it acknowledge it.
const GATHER: Duration = Duration::from_millis(20);
/// The same where events come thick and fast, and the one before held so many.
const GATHER_MANY: Duration = Duration::from_millis(100);
const MANY: usize = 32;
const BATCH_EVENTS: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
/// Batches on their way at once.
const IN_FLIGHT: usize = 4;
/// The pause before a batch that was not acknowledged is published again.
const PAUSE: Duration = Duration::from_millis(250);

/// Makes one message of the stream out of encoded events.
pub type Encode = fn(&[Vec<u8>]) -> Vec<u8>;

#[derive(Debug)]
struct Entry {
    event: Vec<u8>,
    recorded: oneshot::Sender<()>,
}

/// Records events; cheap to clone. The batch task ends when every recorder is dropped.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    entries: mpsc::Sender<Entry>,
}

impl EventRecorder {
    pub(crate) fn new(
        jetstream: jetstream::Context,
        encode: Encode,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (entries, incoming) = mpsc::channel(4 * BATCH_EVENTS);
        (
            Self { entries },
            publish_batches(jetstream, encode, incoming),
        )
    }

    /// Hands an encoded event in; the future inside resolves once JetStream has stored it.
    ///
    /// The outer wait is back-pressure: it ends when there is room for the event.
    pub async fn record(&self, event: Vec<u8>) -> Result<oneshot::Receiver<()>, QueueError> {
        let (recorded, waits) = oneshot::channel();
        let sent = self.entries.send(Entry { event, recorded }).await;
        sent.map_err(|_| QueueError::refused("the event recorder has ended"))?;
        Ok(waits)
    }
}

/// What one message of the stream will hold, and who waits for it.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<Vec<u8>>,
    waiting: Vec<oneshot::Sender<()>>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.event.len();
        self.events.push(entry.event);
        self.waiting.push(entry.recorded);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }
}

/// Gathers entries and publishes them, a few batches at once, until all recorders are gone.
async fn publish_batches(
    jetstream: jetstream::Context,
    encode: Encode,
    incoming: mpsc::Receiver<Entry>,
) {
    let batches = futures_util::stream::unfold((incoming, GATHER), async |(mut incoming, time)| {
        let batch = gather(&mut incoming, time).await?;
        let next = if batch.events.len() < MANY {
            GATHER
        } else {
            GATHER_MANY
        };
        Some((batch, (incoming, next)))
    });
    let publishing = batches.map(|batch| publish_batch(&jetstream, encode, batch));
    publishing.buffer_unordered(IN_FLIGHT).collect::<()>().await;
}

/// The next batch: what comes within `time` of its first event. `None` when no more can come.
async fn gather(incoming: &mut mpsc::Receiver<Entry>, time: Duration) -> Option<Batch> {
    let mut batch = Batch::default();
    batch.push(incoming.recv().await?);
    let until = tokio::time::Instant::now() + time;
    while !batch.is_full() {
        match tokio::time::timeout_at(until, incoming.recv()).await {
            Ok(Some(entry)) => batch.push(entry),
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

async fn publish_batch(jetstream: &jetstream::Context, encode: Encode, batch: Batch) {
    let payload = Bytes::from(encode(&batch.events));
    while let Err(error) = publish_once(jetstream, payload.clone()).await {
        tracing::warn!(%error, events = batch.events.len(), "events not stored yet, publishing again");
        tokio::time::sleep(PAUSE).await;
    }
    for waiting in batch.waiting {
        // Nobody may be waiting for this one; it is recorded all the same.
        let _ = waiting.send(());
    }
}

async fn publish_once(jetstream: &jetstream::Context, payload: Bytes) -> Result<(), QueueError> {
    jetstream.publish(EVENT_SUBJECT, payload).await?.await?;
    Ok(())
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With what is recorded from now on.
    Now,
    /// At this time.
    Time(Timestamp),
    /// Behind this batch.
    Sequence(u64),
}

/// One stored batch.
#[derive(Debug)]
pub struct RecordedBatch {
    /// Its place in the stream, for [`Since::Sequence`].
    pub sequence: u64,
    /// The encoded events.
    pub payload: Bytes,
}

/// Reads events; cheap to clone.
#[derive(Debug, Clone)]
pub struct EventReader {
    jetstream: jetstream::Context,
}

impl EventReader {
    pub(crate) fn new(jetstream: jetstream::Context) -> Self {
        Self { jetstream }
    }

    /// Every batch from a point on, in order, without end. For readers that keep their own place.
    pub async fn tail(
        &self,
        since: Since,
    ) -> Result<impl Stream<Item = Result<RecordedBatch, QueueError>> + Send + use<>, QueueError>
    {
        let config = OrderedConfig {
            deliver_policy: deliver_policy(since)?,
            ..OrderedConfig::default()
        };
        let consumer = self
            .jetstream
            .create_consumer_on_stream(config, EVENTS)
            .await
            .map_err(QueueError::refused)?;
        let messages = consumer.messages().await.map_err(QueueError::refused)?;
        Ok(messages.map(|message| {
            let message = message.map_err(QueueError::refused)?;
            let sequence = message.info().map_err(QueueError::refused)?.stream_sequence;
            Ok(RecordedBatch {
                sequence,
                payload: message.message.payload,
            })
        }))
    }

    /// Batches shared by all processes that read under `name`: each batch goes to one of them, again until `apply`
    /// has succeeded. Runs until the future is dropped or the queue refuses.
    pub async fn project<F, Applied>(&self, name: &str, apply: F) -> Result<(), QueueError>
    where
        F: Fn(Bytes) -> Applied + Send,
        Applied: Future<Output = bool> + Send,
    {
        let config = pull::Config {
            durable_name: Some(name.to_owned()),
            ack_policy: AckPolicy::Explicit,
            deliver_policy: DeliverPolicy::All,
            ..pull::Config::default()
        };
        let consumer: PullConsumer = self
            .jetstream
            .create_consumer_on_stream(config, EVENTS)
            .await
            .map_err(QueueError::refused)?;
        let mut messages = consumer.messages().await.map_err(QueueError::refused)?;
        while let Some(message) = messages.next().await {
            let message = message.map_err(QueueError::refused)?;
            let kind = if apply(message.payload.clone()).await {
                AckKind::Ack
            } else {
                AckKind::Nak(Some(PAUSE))
            };
            message.ack_with(kind).await.map_err(QueueError::refused)?;
        }
        Ok(())
    }
}

fn deliver_policy(since: Since) -> Result<DeliverPolicy, QueueError> {
    Ok(match since {
        Since::Now => DeliverPolicy::New,
        Since::Sequence(sequence) => DeliverPolicy::ByStartSequence {
            start_sequence: sequence.saturating_add(1),
        },
        Since::Time(at) => {
            let start_time = time::OffsetDateTime::from_unix_timestamp_nanos(at.as_nanosecond());
            let start_time = start_time.map_err(QueueError::refused)?;
            DeliverPolicy::ByStartTime { start_time }
        }
    })
}
