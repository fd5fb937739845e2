//! Jobs that wait for their time: whether one does, and how it comes at once or is forgotten.
//!
//! A job that waits for a provider which has had lanes of its own since, or more of them, stands where it was put. So each is
//! looked for wherever it may have been put (ADR 26).

use std::time::Duration;

use async_nats::header::{
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_SCHEDULE, NATS_SCHEDULE_TARGET,
};
use async_nats::jetstream::stream::Stream;
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use model::{Class, Domain, JobId, Timestamp};
use tokio::time::Instant;

use crate::bundle::{self, Standing};
use crate::commit::Entry;
use crate::schedules::{last, schedule_headers};
use crate::{Lane, Publisher, QueueError, Stage};

/// How old a reading of the lists may be when a job that came again is looked for: less than `ack_wait`.
const A_MOMENT_AGO: Duration = Duration::from_secs(3);

/// What a job waits in for its time: a schedule of its own, or one that it shares.
#[derive(Debug)]
pub struct Pending {
    /// The job, as it comes from there.
    pub payload: Bytes,
    pub(crate) stream: String,
    pub(crate) sequence: u64,
}

/// Whether a job waits in the lane in which it was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Here,
    NotHere,
}

impl Publisher {
    /// A job's pending schedule, if it has one. One that has just fired may still seem to stand ([`Hold::is_followed_by`]), and one that
    /// has just been stored among others may be missed.
    ///
    /// [`Hold::is_followed_by`]: crate::Hold::is_followed_by
    pub async fn pending_schedule(
        &self,
        class: Class,
        to: &Domain,
        job: JobId,
    ) -> Result<Option<Pending>, QueueError> {
        for lane in self.lanes.places(to, job) {
            if let Some(pending) = self.pending_in(lane, class, job).await? {
                return Ok(Some(pending));
            }
        }
        Ok(None)
    }

    async fn pending_in(
        &self,
        lane: &Lane,
        class: Class,
        job: JobId,
    ) -> Result<Option<Pending>, QueueError> {
        let stream = self.deferred_stream(lane, class).await?;
        let found = match last(&stream, &lane.schedule_subject(class, job)).await? {
            Some(own) => Some((own.payload, own.sequence)),
            None => self.pending_with_others(&stream, lane, class, job).await?,
        };
        Ok(found.map(|(payload, sequence)| Pending {
            payload,
            stream: lane.stream(class, Stage::Deferred),
            sequence,
        }))
    }

    /// The job as it is in a bundle that waits, and the sequence of the bundle's list: a bundle out of which another job is taken is stored
    /// anew, its list stays where it was.
    async fn pending_with_others(
        &self,
        stream: &Stream<()>,
        lane: &Lane,
        class: Class,
        job: JobId,
    ) -> Result<Option<(Bytes, u64)>, QueueError> {
        let now = Instant::now();
        // As a rule a job comes again long after its schedule was stored. Where it does not it may come twice.
        let since = now.checked_sub(A_MOMENT_AGO).unwrap_or(now);
        let Some(bundle) = self.bundle_with(stream, lane, class, job, since).await? else {
            return Ok(None);
        };
        let list = last(stream, &lane.list_subject(class, &bundle.id)).await?;
        // One that is empty is of a bundle whose jobs are back.
        let list = list.filter(|list| !list.payload.is_empty());
        Ok(list.and_then(|list| Some((bundle.payload(job)?, list.sequence))))
    }

    /// The bundle that a job waits in, as the lists were at `since` or later.
    async fn bundle_with(
        &self,
        stream: &Stream<()>,
        lane: &Lane,
        class: Class,
        job: JobId,
        since: Instant,
    ) -> Result<Option<Standing>, QueueError> {
        let name = lane.stream(class, Stage::Deferred);
        let Some(finder) = self.finders.get(&name) else {
            return Ok(None);
        };
        let lists = lane.list_subject(class, "*");
        let found = finder
            .find(&self.jetstream, &name, &lists, job, since)
            .await?;
        match found.as_deref().and_then(|list| list.rsplit_once('.')) {
            Some((_, id)) => standing(stream, lane, class, id).await,
            None => Ok(None),
        }
    }

    /// Makes a job that waits for its time due at once. One that fires meanwhile, or waits for nothing, is left alone.
    pub async fn hasten(&self, class: Class, to: &Domain, job: JobId) -> Result<(), QueueError> {
        let now = Instant::now();
        for lane in self.lanes.places(to, job) {
            if self.hasten_in(lane, class, job, now).await? == Found::Here {
                break;
            }
        }
        Ok(())
    }

    async fn hasten_in(
        &self,
        lane: &Lane,
        class: Class,
        job: JobId,
        now: Instant,
    ) -> Result<Found, QueueError> {
        let stream = self.deferred_stream(lane, class).await?;
        if let Some(own) = last(&stream, &lane.schedule_subject(class, job)).await? {
            self.fire(lane, class, job, own.sequence, own.payload)
                .await?;
            return Ok(Found::Here);
        }
        let bundle = self.bundle_with(&stream, lane, class, job, now).await?;
        let Some(bundle) = bundle else {
            return Ok(Found::NotHere);
        };
        let Some(payload) = bundle.payload(job) else {
            return Ok(Found::NotHere);
        };
        // Where what follows fails, the job comes twice, and the second finds how the first has ended.
        self.fire(lane, class, job, 0, payload).await?;
        self.take_out(&stream, lane, class, bundle, job).await?;
        Ok(Found::Here)
    }

    /// Schedules a job at once in place of what stands at `sequence` under its own subject. What fires between the two
    /// calls would be sent and come back as a second job.
    async fn fire(
        &self,
        lane: &Lane,
        class: Class,
        job: JobId,
        sequence: u64,
        payload: Bytes,
    ) -> Result<(), QueueError> {
        let mut headers = schedule_headers(Timestamp::UNIX_EPOCH, lane.due_subject(class));
        headers.insert(
            NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            HeaderValue::from(sequence),
        );
        let due = Entry {
            subject: lane.schedule_subject(class, job),
            headers,
            payload,
        };
        match self.publish_once(due).await {
            Ok(_) | Err(QueueError::Superseded) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes a job out of a bundle that waits, or leaves it there where the bundle fires first.
    async fn take_out(
        &self,
        stream: &Stream<()>,
        lane: &Lane,
        class: Class,
        mut bundle: Standing,
        job: JobId,
    ) -> Result<(), QueueError> {
        loop {
            bundle.jobs.retain(|(id, _)| *id != job);
            let subject = lane.bundle_subject(class, &bundle.id);
            let listed = lane.list_subject(class, &bundle.id);
            if bundle.jobs.is_empty() {
                self.purge(lane, class, &subject).await?;
                return self.purge(lane, class, &listed).await;
            }
            let (payload, _) = bundle::encode(bundle.jobs.iter().map(|(id, job)| (*id, job)));
            let mut headers = bundle.headers;
            headers.insert(
                NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                HeaderValue::from(bundle.sequence),
            );
            let rest = Entry {
                subject,
                headers,
                payload,
            };
            match self.publish_once(rest).await {
                Ok(_) => return Ok(()),
                Err(QueueError::Superseded) => {}
                Err(error) => return Err(error),
            }
            // Another was taken out meanwhile, or it has fired.
            match standing(stream, lane, class, &bundle.id).await? {
                Some(now) => bundle = now,
                None => return Ok(()),
            }
        }
    }

    /// Removes a job's pending schedule, if it has one.
    pub async fn purge_schedule(
        &self,
        class: Class,
        to: &Domain,
        job: JobId,
    ) -> Result<(), QueueError> {
        for lane in self.lanes.places(to, job) {
            self.purge(lane, class, &lane.schedule_subject(class, job))
                .await?;
        }
        Ok(())
    }
}

/// The bundle with this id, if it has not fired.
async fn standing(
    stream: &Stream<()>,
    lane: &Lane,
    class: Class,
    id: &str,
) -> Result<Option<Standing>, QueueError> {
    let Some(message) = last(stream, &lane.bundle_subject(class, id)).await? else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    headers.insert(bundle::HEADER, id);
    for name in [NATS_SCHEDULE, NATS_SCHEDULE_TARGET] {
        if let Some(value) = message.headers.get(name.clone()) {
            headers.insert(name, value.clone());
        }
    }
    Ok(Some(Standing {
        id: id.to_owned(),
        sequence: message.sequence,
        headers,
        jobs: bundle::decode(message.payload)?,
    }))
}
