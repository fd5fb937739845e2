//! Puts jobs into the queue: ready now, or at their time.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID, NATS_SCHEDULE, NATS_SCHEDULE_TARGET,
};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, publish::PublishAck};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use model::{Class, Domain, JobId, Sabotage, Timestamp};

use crate::commit::{Committed, Entry, Groups};
use crate::{Lane, LaneMap, QueueError, Stage};

/// How often an unacknowledged publish is repeated, and how long to wait before.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(1500),
];

/// Puts jobs into the queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    jetstream: jetstream::Context,
    lanes: LaneMap,
    groups: Arc<Groups>,
}

/// What a stream made of an entry.
enum Stored {
    /// It was stored.
    Now,
    /// The stream knows its id, and stored nothing.
    Already,
}

impl Publisher {
    pub(crate) fn new(jetstream: jetstream::Context, lanes: LaneMap) -> Self {
        let groups = Arc::new(Groups::of(&lanes));
        Self {
            jetstream,
            lanes,
            groups,
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
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, job.to_string());
        let entry = Entry {
            subject: lane.ready_subject(class, to),
            headers,
            payload,
        };
        self.store(lane, class, Stage::Ready, entry).await.map(drop)
    }

    /// Makes a job due at `at`. A later schedule of the same job replaces an earlier one.
    ///
    /// Carries no `Nats-Msg-Id`: JetStream would answer a repeated id as a duplicate and store nothing, and the
    /// acknowledgement of the job that follows would lose the mail.
    pub async fn schedule(
        &self,
        class: Class,
        to: &Domain,
        job: JobId,
        at: Timestamp,
        payload: Bytes,
    ) -> Result<(), QueueError> {
        let lane = self.lanes.lane(to);
        let mut headers = schedule_headers(at, lane.due_subject(class));
        if Sabotage::ScheduleWithId.is_on() {
            headers.insert(NATS_MESSAGE_ID, job.to_string());
        }
        let entry = Entry {
            subject: lane.schedule_subject(class, job),
            headers,
            payload,
        };
        match self.store(lane, class, Stage::Deferred, entry).await? {
            Stored::Already if !Sabotage::ScheduleWithId.is_on() => {
                Err(QueueError::ScheduleNotStored)
            }
            Stored::Now | Stored::Already => Ok(()),
        }
    }

    /// The payload of a job's pending schedule, if it has one.
    pub async fn pending_schedule(
        &self,
        class: Class,
        to: &Domain,
        job: JobId,
    ) -> Result<Option<Bytes>, QueueError> {
        let lane = self.lanes.lane(to);
        let stream = self.deferred_stream(lane, class).await?;
        let pending = last(&stream, &lane.schedule_subject(class, job)).await?;
        Ok(pending.map(|message| message.payload))
    }

    /// Makes a job that waits for its time due at once. One that fires meanwhile, or waits for nothing, is left alone.
    pub async fn hasten(&self, class: Class, to: &Domain, job: JobId) -> Result<(), QueueError> {
        let lane = self.lanes.lane(to);
        let subject = lane.schedule_subject(class, job);
        let stream = self.deferred_stream(lane, class).await?;
        let Some(pending) = last(&stream, &subject).await? else {
            return Ok(());
        };
        let mut headers = schedule_headers(Timestamp::UNIX_EPOCH, lane.due_subject(class));
        // Without it, a schedule that fires between the two calls would be sent and come back as a second job.
        headers.insert(
            NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            HeaderValue::from(pending.sequence),
        );
        match self.publish_once(&subject, headers, pending.payload).await {
            Ok(_) | Err(QueueError::Superseded) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a job's pending schedule, if it has one.
    pub async fn purge_schedule(
        &self,
        class: Class,
        to: &Domain,
        job: JobId,
    ) -> Result<(), QueueError> {
        let lane = self.lanes.lane(to);
        let stream = self.deferred_stream(lane, class).await?;
        stream
            .purge()
            .filter(lane.schedule_subject(class, job))
            .await
            .map(drop)
            .map_err(QueueError::refused)
    }

    /// Stores an entry of a lane's stream, together with others where others come with it.
    async fn store(
        &self,
        lane: &Lane,
        class: Class,
        stage: Stage,
        entry: Entry,
    ) -> Result<Stored, QueueError> {
        let committed = match self.groups.group(lane, class, stage) {
            Some(group) => group.commit(&self.jetstream, &entry).await,
            None => Committed::Alone,
        };
        if committed == Committed::Stored {
            return Ok(Stored::Now);
        }
        let alone = self.publish(&entry.subject, entry.headers, entry.payload);
        Ok(if alone.await?.duplicate {
            Stored::Already
        } else {
            Stored::Now
        })
    }

    async fn deferred_stream(
        &self,
        lane: &Lane,
        class: Class,
    ) -> Result<jetstream::stream::Stream<()>, QueueError> {
        let name = lane.stream(class, crate::Stage::Deferred);
        self.jetstream
            .get_stream_no_info(name)
            .await
            .map_err(QueueError::refused)
    }

    /// Publishes until it is acknowledged, a few times at most.
    async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, QueueError> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self
                .publish_once(subject, headers.clone(), payload.clone())
                .await
            {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if error.is_transient() => tokio::time::sleep(*pause).await,
                Some(_) | None => return Err(error),
            }
        }
    }

    async fn publish_once(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, QueueError> {
        let acknowledged = self
            .jetstream
            .publish_with_headers(subject.to_owned(), headers, payload)
            .await?;
        Ok(acknowledged.await?)
    }
}

fn schedule_headers(at: Timestamp, due_subject: String) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SCHEDULE, format!("@at {at}"));
    headers.insert(NATS_SCHEDULE_TARGET, due_subject);
    headers
}

/// The last message of a subject, if it has one.
async fn last(
    stream: &jetstream::stream::Stream<()>,
    subject: &str,
) -> Result<Option<StreamMessage>, QueueError> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(QueueError::refused(error)),
    }
}
