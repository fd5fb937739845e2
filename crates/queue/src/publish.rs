//! Puts jobs into the queue: ready now, or at their time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_SCHEDULE, NATS_SCHEDULE_TARGET,
};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, publish::PublishAck};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::future::{join_all, try_join};
use model::{Class, Clock as _, Domain, JobId, Sabotage, SystemClock, Timestamp};

use crate::bundle::{self, Finder, WaitingJob};
use crate::commit::{self, Keyed};
use crate::group::{Committed, Groups};
use crate::{Bundle, Lane, LaneMap, QueueError, Stage};

/// How often an unacknowledged publish is repeated, and how long to wait before.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(1500),
];

/// The pause before what was perhaps stored is taken back again.
const WITHDRAWING: Duration = Duration::from_millis(500);

/// Puts jobs into the queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    jetstream: jetstream::Context,
    lanes: LaneMap,
    ready: Arc<Groups<Keyed>>,
    waiting: Arc<Groups<WaitingJob>>,
    /// By stream.
    finders: Arc<HashMap<String, Finder>>,
}

impl Publisher {
    pub(crate) fn new(jetstream: jetstream::Context, lanes: LaneMap) -> Self {
        let finder = |lane: &Lane, class| (lane.stream(class, Stage::Deferred), Finder::default());
        let finders = lanes
            .lanes()
            .flat_map(|lane| Class::ALL.map(|class| finder(lane, class)))
            .collect();
        Self {
            jetstream,
            ready: Arc::new(Groups::of(&lanes, commit::MOST)),
            waiting: Arc::new(Groups::of(&lanes, bundle::MOST)),
            finders: Arc::new(finders),
            lanes,
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
        let job = Keyed {
            subject: lane.ready_subject(class, to),
            id: job.to_string(),
            payload,
        };
        let store = |jobs: Vec<Keyed>| async move {
            let stored = commit::store(&self.jetstream, &jobs).await;
            vec![stored; jobs.len()]
        };
        let stored = match self.ready.group(lane, class) {
            Some(group) => group.commit(job.clone(), store).await,
            None => Committed::Alone,
        };
        match stored {
            Committed::Stored => Ok(()),
            Committed::Alone => {
                let headers = job.headers();
                let stored = self.publish(&job.subject, headers, job.payload).await;
                stored.map(drop)
            }
        }
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
        let waiting = WaitingJob {
            id: job,
            at,
            payload,
        };
        self.schedule_alone(self.lanes.lane(to), class, &waiting)
            .await
    }

    async fn schedule_alone(
        &self,
        lane: &Lane,
        class: Class,
        job: &WaitingJob,
    ) -> Result<(), QueueError> {
        let mut headers = schedule_headers(job.at, lane.due_subject(class));
        if Sabotage::ScheduleWithId.is_on() {
            headers.insert(async_nats::header::NATS_MESSAGE_ID, job.id.to_string());
        }
        let subject = lane.schedule_subject(class, job.id);
        let stored = self.publish(&subject, headers, job.payload.clone()).await?;
        if stored.duplicate && !Sabotage::ScheduleWithId.is_on() {
            Err(QueueError::ScheduleNotStored)
        } else {
            Ok(())
        }
    }

    /// The same for a job that nobody schedules again while it waits: it may share its schedule with others that are due
    /// at about the same time, and come with the last of them, two seconds late at most (ADR 19).
    pub async fn schedule_with_others(
        &self,
        class: Class,
        to: &Domain,
        job: JobId,
        at: Timestamp,
        payload: Bytes,
    ) -> Result<(), QueueError> {
        let lane = self.lanes.lane(to);
        let waiting = WaitingJob {
            id: job,
            at,
            payload,
        };
        let store = |jobs| self.store_waiting(lane, class, jobs);
        let stored = match self.waiting.group(lane, class) {
            Some(group) if !Sabotage::ScheduleWithId.is_on() => {
                group.commit(waiting.clone(), store).await
            }
            Some(_) | None => Committed::Alone,
        };
        match stored {
            Committed::Stored => Ok(()),
            Committed::Alone => self.schedule_alone(lane, class, &waiting).await,
        }
    }

    /// Schedules jobs of one stream, in bundles where their times allow it.
    async fn store_waiting(
        &self,
        lane: &Lane,
        class: Class,
        jobs: Vec<WaitingJob>,
    ) -> Vec<Committed> {
        // The broker fires by real time, and so this is real time as well.
        let bundles = bundle::sort(&jobs, SystemClock.now());
        let storing = bundles.iter().map(|places| {
            let jobs: Vec<&WaitingJob> = places.iter().map(|place| &jobs[*place]).collect();
            self.store_bundle(lane, class, jobs)
        });
        let stored = join_all(storing).await;
        let mut outcomes = vec![Committed::Alone; jobs.len()];
        for (places, stored) in bundles.into_iter().zip(stored) {
            for place in places {
                outcomes[place] = stored;
            }
        }
        outcomes
    }

    /// Stores the schedule that `jobs` share. Where it is not stored, none of it is left when this returns.
    async fn store_bundle(&self, lane: &Lane, class: Class, jobs: Vec<&WaitingJob>) -> Committed {
        let last = match &jobs[..] {
            [] => return Committed::Alone,
            [only] => {
                return match self.schedule_alone(lane, class, only).await {
                    Ok(()) => Committed::Stored,
                    Err(_) => Committed::Alone,
                };
            }
            [.., last] => last,
        };
        let id = JobId::fresh();
        let (payload, list) = bundle::encode(&jobs);
        let id = id.to_string();
        let mut headers = schedule_headers(last.at, lane.due_subject(class));
        headers.insert(bundle::HEADER, id.as_str());
        let bundle = lane.bundle_subject(class, &id);
        let listed = lane.list_subject(class, &id);
        let stored = try_join(
            self.publish(&bundle, headers, payload),
            self.publish(&listed, HeaderMap::new(), list),
        )
        .await;
        let Err(error) = stored else {
            return Committed::Stored;
        };
        tracing::debug!(%error, jobs = jobs.len(), "jobs not scheduled together, scheduling each alone");
        for subject in [&bundle, &listed] {
            while let Err(error) = self.purge(lane, class, subject).await {
                tracing::debug!(%error, "bundle not taken back, trying again");
                tokio::time::sleep(WITHDRAWING).await;
            }
        }
        Committed::Alone
    }

    /// Puts the jobs of a bundle into the stream it came from, each due at once, and forgets the bundle. Repeated within
    /// five minutes, each job is stored once.
    pub async fn unpack(&self, bundle: Bundle) -> Result<(), QueueError> {
        let Bundle {
            id,
            lane,
            class,
            payload,
            hold,
        } = bundle;
        let jobs: Vec<Keyed> = bundle::decode(payload)?
            .into_iter()
            .map(|(job, payload)| Keyed {
                subject: lane.due_subject(class),
                id: format!("{id}.{job}"),
                payload,
            })
            .collect();
        if commit::store(&self.jetstream, &jobs).await == Committed::Alone {
            for job in jobs {
                self.publish(&job.subject, job.headers(), job.payload)
                    .await?;
            }
        }
        self.purge(&lane, class, &lane.list_subject(class, &id))
            .await?;
        hold.settle().await
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
        match last(&stream, &lane.schedule_subject(class, job)).await? {
            Some(pending) => Ok(Some(pending.payload)),
            None => self.bundled(&stream, lane, class, job).await,
        }
    }

    /// The payload of a job that waits in a bundle.
    async fn bundled(
        &self,
        stream: &jetstream::stream::Stream<()>,
        lane: &Lane,
        class: Class,
        job: JobId,
    ) -> Result<Option<Bytes>, QueueError> {
        let name = lane.stream(class, Stage::Deferred);
        let Some(finder) = self.finders.get(&name) else {
            return Ok(None);
        };
        let lists = lane.list_subject(class, "*");
        let found = finder.find(&self.jetstream, &name, &lists, job).await?;
        let Some((_, bundle)) = found.as_deref().and_then(|list| list.rsplit_once('.')) else {
            return Ok(None);
        };
        let Some(message) = last(stream, &lane.bundle_subject(class, bundle)).await? else {
            return Ok(None);
        };
        let jobs = bundle::decode(message.payload)?;
        let payload = jobs
            .into_iter()
            .find_map(|(id, payload)| (id == job).then_some(payload));
        Ok(payload)
    }

    /// Makes a job that waits for its time due at once. One that fires meanwhile, or waits for nothing, is left alone.
    /// From a bundle a copy is taken, and whichever comes second finds how the first has ended.
    pub async fn hasten(&self, class: Class, to: &Domain, job: JobId) -> Result<(), QueueError> {
        let lane = self.lanes.lane(to);
        let subject = lane.schedule_subject(class, job);
        let stream = self.deferred_stream(lane, class).await?;
        let (sequence, payload) = match last(&stream, &subject).await? {
            Some(pending) => (pending.sequence, pending.payload),
            None => match self.bundled(&stream, lane, class, job).await? {
                Some(payload) => (0, payload),
                None => return Ok(()),
            },
        };
        let mut headers = schedule_headers(Timestamp::UNIX_EPOCH, lane.due_subject(class));
        // Without it, a schedule that fires between the two calls would be sent and come back as a second job.
        headers.insert(
            NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            HeaderValue::from(sequence),
        );
        match self.publish_once(&subject, headers, payload).await {
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
        self.purge(lane, class, &lane.schedule_subject(class, job))
            .await
    }

    /// Removes what stands under a subject of a stream of deferred jobs.
    async fn purge(&self, lane: &Lane, class: Class, subject: &str) -> Result<(), QueueError> {
        let stream = self.deferred_stream(lane, class).await?;
        stream
            .purge()
            .filter(subject)
            .await
            .map(drop)
            .map_err(QueueError::refused)
    }

    async fn deferred_stream(
        &self,
        lane: &Lane,
        class: Class,
    ) -> Result<jetstream::stream::Stream<()>, QueueError> {
        let name = lane.stream(class, Stage::Deferred);
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
