//! Takes jobs out of the queue, in batches bounded by count and bytes.
//!
//! Where a stream has copies, the broker replicates each delivery before it sends the job, and not before it sends
//! word that the batch is over: that word overtakes jobs. It says how many jobs of the batch were *not* handed out,
//! though, so a pull is read until all the others have come. (The client library ends a batch at the first such word.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, StatusCode, Subscriber, jetstream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use model::{Class, Domain, Timestamp};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::publish::REPEATED;
use crate::settled::{Line, Others, Told};
use crate::streams::WORKERS;
use crate::{Bundle, Hold, Holds, Lane, QueueError, Stage};

/// How long a pull waits for jobs. Also bounds how stale the proof of a fresh hold is.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of one pull.
const BATCH_BYTES: usize = 8 << 20;
/// How long what was handed out may take to come; what takes longer comes again after `ack_wait`.
const UNDERWAY: Duration = Duration::from_secs(5);
/// How often it is looked at whether the connection is another. What was asked before may have been asked over that one, so
/// it is waited once more.
const LOOK: Duration = Duration::from_millis(100);
/// How many jobs of a batch were not handed out (ADR-13 of NATS).
const PENDING: &str = "Nats-Pending-Messages";

/// What a pull brings.
#[derive(Debug)]
pub enum Taken {
    /// A job.
    Job(Pulled),
    /// Jobs that came due together, to be put back one by one with [`Publisher::unpack`](crate::Publisher::unpack).
    Bundle(Bundle),
}

impl Taken {
    /// Octets of its payload.
    pub fn octets(&self) -> usize {
        match self {
            Self::Job(pulled) => pulled.payload.len(),
            Self::Bundle(bundle) => bundle.octets(),
        }
    }
}

/// A job as it came from the queue.
#[derive(Debug)]
pub struct Pulled {
    /// The bytes that were published.
    pub payload: Bytes,
    /// Whether it may have been in other hands before: delivered more than once, or stored again by a repeated call.
    pub redelivered: bool,
    /// Whether somebody else may have it: given by a broker that died or forgot, or stored by the call that this one repeats.
    pub may_be_shared: bool,
    /// When the broker stored it, by the broker's clock.
    pub stored_at: Timestamp,
    /// Whether it waited for its time, or is fresh.
    pub stage: Stage,
    /// Whether it came through an overflow lane: a repeated call may have put the same job into its domain's lane.
    pub overflowed: bool,
    /// The domain that stands for the provider whose own lane it came from.
    pub owner: Option<Domain>,
    /// The claim on it.
    pub hold: Hold,
}

/// Takes jobs out of one stream.
#[derive(Debug)]
pub struct Puller {
    jetstream: jetstream::Context,
    settled: Arc<Line>,
    lane: Lane,
    class: Class,
    stage: Stage,
    holds: Holds,
    /// The number of the last delivery: the broker counts all that it makes of the stream, to whomever.
    last_delivery: AtomicU64,
}

impl Puller {
    /// For a stream that has its consumer already.
    pub(crate) async fn open(
        jetstream: &jetstream::Context,
        lane: &Lane,
        class: Class,
        stage: Stage,
        holds: Holds,
    ) -> Result<Self, QueueError> {
        let stream = lane.stream(class, stage);
        let connection = holds.connection().await?;
        let consumer: jetstream::consumer::PullConsumer = jetstream
            .get_consumer_from_stream(WORKERS, &*stream)
            .await
            .map_err(QueueError::refused)?;
        let others = match stage {
            Stage::Ready => Others::None,
            Stage::Deferred => Others::Schedules,
        };
        let settled = holds.line(&stream, &lane.jobs(class, stage), others);
        let told = Told::from(consumer.cached_info());
        settled.open(connection, told);
        let last = settled.count_from(told.deliveries);
        let puller = Self {
            jetstream: jetstream.clone(),
            settled,
            lane: lane.clone(),
            class,
            stage,
            holds,
            last_delivery: AtomicU64::new(told.deliveries),
        };
        if told.deliveries < last {
            puller.note_forgetting(told.deliveries, last);
        }
        Ok(puller)
    }

    /// The stream it pulls from.
    pub fn stream(&self) -> &str {
        self.settled.stream()
    }

    /// Up to `limit` jobs as they come; ends when there were that many or after two seconds.
    pub async fn pull(
        &self,
        limit: usize,
    ) -> Result<impl Stream<Item = Result<Taken, QueueError>> + '_, QueueError> {
        let connection = self.holds.connection().await?;
        let began = Instant::now();
        let client = self.jetstream.client();
        let batch = Batch::ask(&client, self.stream(), limit).await?;
        let is_cut_off = move || self.holds.is_cut_off(connection);
        let jobs = stream::unfold(Some(batch), move |batch| async move {
            let mut batch = batch?;
            match batch.next(is_cut_off).await {
                Ok(Some(message)) => Some((Ok(message), Some(batch))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(jobs.filter_map(move |message| async move {
            message
                .and_then(|message| self.hold(message, connection, began))
                .transpose()
        }))
    }

    /// The broker has made its `delivery`th delivery. One that counts anew has forgotten to whom it gave what (ADR 32).
    fn note(&self, delivery: u64) {
        let last = self.last_delivery.swap(delivery, Ordering::Relaxed);
        self.settled.count(delivery);
        if delivery <= last {
            self.note_forgetting(delivery, last);
        }
    }

    fn note_forgetting(&self, delivery: u64, last: u64) {
        let stream = self.stream();
        tracing::info!(
            stream,
            delivery,
            last,
            "queue has forgotten what is in hand"
        );
        self.holds.came_up_anew();
        self.settled.note_forgetting();
    }

    fn hold(
        &self,
        message: async_nats::Message,
        connection: Connection,
        began: Instant,
    ) -> Result<Option<Taken>, QueueError> {
        let context = self.jetstream.clone();
        let message = jetstream::Message { message, context };
        let info = message.info().map_err(QueueError::refused)?;
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        self.note(info.consumer_sequence);
        let place = self
            .settled
            .place(connection, sequence, delivered, info.consumer_sequence);
        let stored_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos());
        let stored_at = stored_at.map_err(QueueError::refused)?;
        if delivered > 1 {
            self.holds.hold_off(&self.settled);
        }
        let (message, acker) = message.split();
        let Some(hold) = self.holds.take(&self.settled, place, acker, began) else {
            return Ok(None);
        };
        if let Some(id) = Bundle::id_in(message.headers.as_ref()) {
            return Ok(Some(Taken::Bundle(Bundle {
                id,
                lane: self.lane.clone(),
                class: self.class,
                payload: message.payload,
                hold,
            })));
        }
        let is_repeated = message
            .headers
            .as_ref()
            .is_some_and(|headers| headers.get(REPEATED).is_some());
        Ok(Some(Taken::Job(Pulled {
            payload: message.payload,
            redelivered: delivered > 1 || is_repeated,
            may_be_shared: is_repeated || self.holds.may_have_given(stored_at),
            stored_at,
            stage: self.stage,
            overflowed: self.lane.is_overflow(),
            owner: self.lane.owner().cloned(),
            hold,
        })))
    }
}

/// One request for jobs, and what has come of it.
struct Batch {
    messages: Subscriber,
    /// Jobs asked for.
    limit: usize,
    /// Jobs that will come, as far as the broker has said.
    expected: usize,
    received: usize,
    /// When to stop waiting for the next one.
    deadline: Instant,
    /// When to look whether the connection is another.
    look_at: Instant,
    /// Whether it was when that was looked at last, and nothing has come since.
    was_cut_off: bool,
}

impl Batch {
    async fn ask(client: &Client, stream: &str, limit: usize) -> Result<Self, QueueError> {
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{WORKERS}");
        let expires = PATIENCE.as_nanos();
        let request =
            format!(r#"{{"batch":{limit},"max_bytes":{BATCH_BYTES},"expires":{expires}}}"#);
        let batch = Self {
            messages: messages.map_err(QueueError::refused)?,
            limit,
            expected: limit,
            received: 0,
            deadline: Instant::now() + PATIENCE + UNDERWAY,
            look_at: Instant::now() + LOOK,
            was_cut_off: false,
        };
        let asked = client
            .publish_with_reply(subject, inbox, request.into())
            .await;
        asked.map_err(QueueError::refused)?;
        Ok(batch)
    }

    /// The next job; `None` once all that were handed out have come, and where no more can come.
    async fn next(
        &mut self,
        is_cut_off: impl Fn() -> bool,
    ) -> Result<Option<async_nats::Message>, QueueError> {
        while self.received < self.expected {
            let until = self.deadline.min(self.look_at);
            let Ok(message) = tokio::time::timeout_at(until, self.messages.next()).await else {
                let was_cut_off = std::mem::replace(&mut self.was_cut_off, is_cut_off());
                if until == self.deadline || was_cut_off {
                    return Ok(None);
                }
                self.look_at = Instant::now() + LOOK;
                continue;
            };
            self.was_cut_off = false;
            let Some(message) = message else {
                return Err(QueueError::refused("the connection was closed"));
            };
            if message.status.is_none_or(|status| status == StatusCode::OK) {
                self.received += 1;
                return Ok(Some(message));
            }
            self.is_over(&message)?;
        }
        Ok(None)
    }

    /// The broker hands out no more: the time is up, or the batch is full by count or by octets.
    fn is_over(&mut self, word: &async_nats::Message) -> Result<(), QueueError> {
        let headers = word.headers.as_ref();
        let pending = headers.and_then(|headers| headers.get(PENDING)?.as_str().parse().ok());
        let Some(pending) = pending else {
            let reason = word.description.as_deref().unwrap_or("no reason given");
            return Err(QueueError::Refused(format!("pull ended: {reason}")));
        };
        self.expected = self.expected.min(self.limit.saturating_sub(pending));
        self.deadline = Instant::now() + UNDERWAY;
        Ok(())
    }
}
