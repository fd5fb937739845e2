//! Schedules: of one job, or of a bundle of them (ADR 4, ADR 19). Those that stand already: `waiting.rs`.

use std::time::Duration;

use async_nats::header::{
    NATS_EXPECTED_LAST_SEQUENCE, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID,
    NATS_SCHEDULE, NATS_SCHEDULE_TARGET,
};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use model::{Class, Clock as _, Domain, JobId, Sabotage, SystemClock, Timestamp};

use crate::bundle::{self, Sharing, WaitingJob};
use crate::commit::{self, Entry};
use crate::group::Committed;
use crate::{Bundle, Lane, Publisher, QueueError, Stage};

/// How long to try to find what was perhaps stored.
const FINDING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);
/// No stream comes this far.
const NO_SEQUENCE: u64 = 1 << 53;
/// When jobs that could not be put back are tried again.
const UNPACKED_LATER: Duration = Duration::from_secs(1);

impl Publisher {
    /// Makes a job due at `at`. A later schedule of its own replaces an earlier one.
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
        sharing: Sharing,
    ) -> Result<(), QueueError> {
        let sharing = match Sabotage::ScheduleWithId.is_on() {
            true => Sharing::Own,
            false => sharing,
        };
        let lane = self.lanes.lane(to, job);
        let job = WaitingJob {
            id: job,
            at,
            payload,
            sharing,
        };
        self.store_waiting(lane, class, job).await
    }

    /// Stores a job's schedule, together with others where others come with it.
    async fn store_waiting(
        &self,
        lane: &Lane,
        class: Class,
        job: WaitingJob,
    ) -> Result<(), QueueError> {
        let store = |jobs| self.store_schedules(lane, class, jobs);
        let stored = match self.waiting.group(lane, class) {
            Some(group) => group.commit(job.clone(), store).await,
            None => Committed::Alone,
        };
        match stored {
            Committed::Stored => Ok(()),
            Committed::Unknown if job.sharing == Sharing::WithOthers => Err(QueueError::NotKnown),
            Committed::Alone | Committed::Unknown => self.store_own(lane, class, &job).await,
        }
    }

    /// Stores the schedules of jobs of one stream in one batch, bundled where their times allow it.
    async fn store_schedules(
        &self,
        lane: &Lane,
        class: Class,
        jobs: Vec<WaitingJob>,
    ) -> Vec<Committed> {
        // The broker fires by real time, and so this is real time as well.
        let mut bundles = bundle::sort(&jobs, SystemClock.now());
        // The list of the last tells of all.
        bundles.sort_by_key(|places| places.len() > 1);
        let has_bundles = bundles.last().is_some_and(|places| places.len() > 1);
        let entries: Vec<Entry> = bundles
            .iter()
            .flat_map(|places| match &places[..] {
                [only] => vec![schedule(lane, class, &jobs[*only])],
                _ => bundle_schedule(lane, class, places.iter().map(|place| &jobs[*place])),
            })
            .collect();
        let stored = match entries.last() {
            Some(list) if has_bundles => {
                self.store_bundles(lane, class, &entries, &list.subject)
                    .await
            }
            Some(_) | None => self.store_singles(&entries).await,
        };
        vec![stored; jobs.len()]
    }

    /// Stores schedules of single jobs. What is stored once more, each under its own subject, replaces what was.
    async fn store_singles(&self, entries: &[Entry]) -> Committed {
        let outcomes = commit::store(&self.jetstream, entries).await;
        let is_stored = |outcome: &Committed| *outcome == Committed::Stored;
        if outcomes.iter().all(is_stored) {
            Committed::Stored
        } else {
            Committed::Alone
        }
    }

    /// Stores schedules, the last of them a bundle's, with its list behind it. Where the broker does not say that it did, it is looked
    /// whether that `list` stands: whoever gets one of their jobs again looks as well, and forgets a job that waits. The broker
    /// stores in order, and not to the end where its storage fills up: what was stored in front then is stored again.
    async fn store_bundles(
        &self,
        lane: &Lane,
        class: Class,
        entries: &[Entry],
        list: &str,
    ) -> Committed {
        let Err(error) = commit::store_all(&self.jetstream, entries).await else {
            return Committed::Stored;
        };
        tracing::debug!(%error, "schedules not committed together, looking for them");
        let finding = async {
            self.pass(list).await?;
            let stream = self.deferred_stream(lane, class).await?;
            last(&stream, list).await
        };
        match tokio::time::timeout(FINDING, finding).await {
            Ok(Ok(Some(_))) => Committed::Stored,
            Ok(Ok(None)) => Committed::Alone,
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(
                    schedules = entries.len(),
                    "not known whether jobs were scheduled"
                );
                Committed::Unknown
            }
        }
    }

    /// Waits until the broker has come to whatever was sent to a stream before, by way of a message that it refuses, for whatever
    /// reason: however late that comes, it changes nothing.
    async fn pass(&self, subject: &str) -> Result<(), QueueError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(NO_SEQUENCE));
        let behind = Entry {
            subject: subject.to_owned(),
            headers,
            payload: Bytes::new(),
        };
        loop {
            match self.publish_once(behind.clone()).await {
                Ok(_)
                | Err(QueueError::Superseded | QueueError::StorageFull(_) | QueueError::Full(_)) => {
                    return Ok(());
                }
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => tracing::debug!(%error, "schedules not passed, trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stores a job's schedule under the job's own subject, where it is replaced by the next.
    async fn store_own(
        &self,
        lane: &Lane,
        class: Class,
        job: &WaitingJob,
    ) -> Result<(), QueueError> {
        let _turn = self.alone.acquire().await;
        let stored = self.publish(schedule(lane, class, job)).await?;
        if stored.duplicate && !Sabotage::ScheduleWithId.is_on() {
            Err(QueueError::ScheduleNotStored)
        } else {
            Ok(())
        }
    }

    /// Puts the jobs of a bundle into the stream it came from, each due at once, and forgets the bundle. However often a
    /// bundle comes, its jobs are put back once: its list is emptied in the same batch, as the last of it. Where storage fills up in
    /// the middle, those in front come once more.
    pub async fn unpack(&self, bundle: Bundle) -> Result<(), QueueError> {
        let _turn = self.unpacking.acquire().await;
        // It may be with somebody else by now.
        if !bundle.hold.is_proven() {
            return Ok(());
        }
        match self.put_back(&bundle).await {
            Ok(()) => {
                bundle.hold.settle();
                Ok(())
            }
            Err(error) => {
                bundle.hold.postpone(UNPACKED_LATER).await;
                Err(error)
            }
        }
    }

    async fn put_back(&self, bundle: &Bundle) -> Result<(), QueueError> {
        let (lane, class) = (&bundle.lane, bundle.class);
        let listed = lane.list_subject(class, &bundle.id);
        let stream = self.deferred_stream(lane, class).await?;
        match last(&stream, &listed).await? {
            Some(list) if list.payload.is_empty() => {}
            Some(list) => {
                let due = |(_, payload)| Entry {
                    subject: lane.due_subject(class),
                    headers: HeaderMap::new(),
                    payload,
                };
                let jobs = bundle::decode(bundle.payload.clone())?;
                let mut entries: Vec<Entry> = jobs.into_iter().map(due).collect();
                entries.push(emptied(&listed, list.sequence));
                commit::store_all(&self.jetstream, &entries).await?;
            }
            // Unless whoever answers leads no longer, and does not know of it: it cannot store anything, either.
            None => drop(self.publish_once(emptied(&listed, 0)).await?),
        }
        self.purge(lane, class, &listed).await
    }

    /// Removes what stands under a subject of a stream of deferred jobs.
    pub(crate) async fn purge(
        &self,
        lane: &Lane,
        class: Class,
        subject: &str,
    ) -> Result<(), QueueError> {
        let stream = self.deferred_stream(lane, class).await?;
        stream
            .purge()
            .filter(subject)
            .await
            .map(drop)
            .map_err(QueueError::refused)
    }

    pub(crate) async fn deferred_stream(
        &self,
        lane: &Lane,
        class: Class,
    ) -> Result<Stream<()>, QueueError> {
        let name = lane.stream(class, Stage::Deferred);
        self.jetstream
            .get_stream_no_info(name)
            .await
            .map_err(QueueError::refused)
    }
}

/// An empty list, in place of the one at `sequence`; 0 where there is none.
fn emptied(listed: &str, sequence: u64) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert(
        NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
        HeaderValue::from(sequence),
    );
    Entry {
        subject: listed.to_owned(),
        headers,
        payload: Bytes::new(),
    }
}

/// The schedule of one job.
fn schedule(lane: &Lane, class: Class, job: &WaitingJob) -> Entry {
    let mut headers = schedule_headers(job.at, lane.due_subject(class));
    if Sabotage::ScheduleWithId.is_on() {
        headers.insert(NATS_MESSAGE_ID, job.id.to_string());
    }
    Entry {
        subject: lane.schedule_subject(class, job.id),
        headers,
        payload: job.payload.clone(),
    }
}

/// The schedule that `jobs` share, which fires with the last, and the list of them.
fn bundle_schedule<'a>(
    lane: &Lane,
    class: Class,
    jobs: impl Iterator<Item = &'a WaitingJob> + Clone,
) -> Vec<Entry> {
    let id = JobId::fresh().to_string();
    let at = jobs.clone().map(|job| job.at).max().unwrap_or_default();
    let (payload, list) = bundle::encode(jobs.map(|job| (job.id, &job.payload)));
    let mut headers = schedule_headers(at, lane.due_subject(class));
    headers.insert(bundle::HEADER, id.as_str());
    let schedule = Entry {
        subject: lane.bundle_subject(class, &id),
        headers,
        payload,
    };
    let list = Entry {
        subject: lane.list_subject(class, &id),
        headers: HeaderMap::new(),
        payload: list,
    };
    vec![schedule, list]
}

/// A schedule that puts its payload under `due_subject` at `at`.
pub(crate) fn schedule_headers(at: Timestamp, due_subject: String) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SCHEDULE, format!("@at {at}"));
    headers.insert(NATS_SCHEDULE_TARGET, due_subject);
    headers
}

/// The last message of a subject, if it has one.
pub(crate) async fn last(
    stream: &Stream<()>,
    subject: &str,
) -> Result<Option<StreamMessage>, QueueError> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(QueueError::refused(error)),
    }
}
