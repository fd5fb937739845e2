//! Several jobs in one schedule: stored, fired and removed as one message (ADR 19).
//!
//! A schedule is stored, fired and removed message by message, and on a single server each of these is a sync. So jobs
//! of one stream that are to wait until about the same moment share a schedule. When it fires, whoever pulls it puts its
//! jobs back into the stream one by one, all in one batch, and from there on each is a due job like any other.
//!
//! A small message beside each bundle lists its jobs, so that one job among many can be found: for a redelivery that was
//! deferred before, and for a cancellation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{HeaderMap, StatusCode};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use model::{Class, JobId, Timestamp};
use tokio::time::Instant;

use crate::group::{Item, Most};
use crate::{Hold, Lane, QueueError};

/// Whoever defers while others do waits a moment for more: nobody waits for a deferral.
pub(crate) const MOST: Most = Most {
    items: 256,
    octets: 1 << 20,
    pause: Duration::from_millis(50),
};
/// The most jobs of one bundle.
const JOBS: usize = 64;
/// The most octets of one, unless its one job is larger.
const OCTETS: usize = 256 << 10;
/// How far apart the jobs of a bundle may be due, as a part of the time until then. All fire with the last.
const SPREAD: f64 = 1.0 / 64.0;
const SHORTEST_SPREAD: Duration = Duration::from_millis(250);
const LONGEST_SPREAD: Duration = Duration::from_secs(2);

/// The header that names a bundle.
pub(crate) const HEADER: &str = "Postrider-Bundle";
/// Octets of a job's id, in a list.
const ID: usize = 16;
/// How many lists one request asks for.
const LISTS: usize = 500;
/// The status behind the last answer of a request.
const END_OF_BATCH: u16 = 204;
/// How long to wait for the next list.
const ANSWER: Duration = Duration::from_secs(5);

/// Whether a job has a schedule for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// It has one of its own, which the next of the same job replaces.
    Own,
    /// Nobody schedules it again while it waits: it may share one with others that are due at about the same time, and
    /// come with the last of them, two seconds late at most (ADR 19).
    WithOthers,
}

/// A job that is to wait for its time.
#[derive(Debug, Clone)]
pub(crate) struct WaitingJob {
    pub(crate) id: JobId,
    pub(crate) at: Timestamp,
    pub(crate) payload: Bytes,
    pub(crate) sharing: Sharing,
}

impl Item for WaitingJob {
    fn octets(&self) -> usize {
        self.payload.len()
    }
}

/// Sorts jobs into bundles; the numbers are places in `jobs`. One that is due when no other is, or may not share, has a
/// bundle for itself.
pub(crate) fn sort(jobs: &[WaitingJob], now: Timestamp) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..jobs.len()).collect();
    places.sort_by_key(|place| (jobs[*place].sharing == Sharing::WithOthers, jobs[*place].at));
    let mut bundles: Vec<Vec<usize>> = Vec::new();
    let mut octets = 0;
    for place in places {
        let job = &jobs[place];
        octets += job.payload.len();
        match bundles.last_mut() {
            Some(bundle)
                if jobs[bundle[0]].sharing == Sharing::WithOthers
                    && bundle.len() < JOBS
                    && octets <= OCTETS
                    && between(jobs[bundle[0]].at, job.at) <= spread(now, jobs[bundle[0]].at) =>
            {
                bundle.push(place);
            }
            Some(_) | None => {
                octets = job.payload.len();
                bundles.push(vec![place]);
            }
        }
    }
    bundles
}

fn spread(now: Timestamp, at: Timestamp) -> Duration {
    between(now, at)
        .mul_f64(SPREAD)
        .clamp(SHORTEST_SPREAD, LONGEST_SPREAD)
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(from.duration_until(to)).unwrap_or_default()
}

/// A bundle's payload, and the list of its jobs.
pub(crate) fn encode<'a>(jobs: impl Iterator<Item = (JobId, &'a Bytes)>) -> (Bytes, Bytes) {
    let (mut payload, mut list) = (BytesMut::new(), BytesMut::new());
    for (id, job) in jobs {
        list.extend_from_slice(id.as_bytes());
        payload.extend_from_slice(id.as_bytes());
        payload.put_u32(u32::try_from(job.len()).unwrap_or(u32::MAX));
        payload.extend_from_slice(job);
    }
    (payload.freeze(), list.freeze())
}

/// The jobs of a bundle's payload, in order.
pub(crate) fn decode(mut payload: Bytes) -> Result<Vec<(JobId, Bytes)>, QueueError> {
    let mut jobs = Vec::new();
    while payload.has_remaining() {
        let mut id = [0; ID];
        let length = payload
            .try_copy_to_slice(&mut id)
            .and_then(|()| payload.try_get_u32());
        match length.map(|length| length as usize) {
            Ok(length) if length <= payload.len() => {
                jobs.push((JobId::from_bytes(id), payload.split_to(length)));
            }
            Ok(_) | Err(_) => return Err(QueueError::refused("a bundle of jobs is cut off")),
        }
    }
    Ok(jobs)
}

/// Jobs that came due together.
#[derive(Debug)]
pub struct Bundle {
    /// Names it.
    pub(crate) id: String,
    /// Where it came from.
    pub(crate) lane: Lane,
    pub(crate) class: Class,
    pub(crate) payload: Bytes,
    pub(crate) hold: Hold,
}

impl Bundle {
    /// Its id, if a message with these headers is a bundle.
    pub(crate) fn id_in(headers: Option<&HeaderMap>) -> Option<String> {
        Some(headers?.get(HEADER)?.as_str().to_owned())
    }

    /// Names it, however often it comes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Octets of all its jobs.
    pub fn octets(&self) -> usize {
        self.payload.len()
    }
}

/// A bundle that waits for its time.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) id: String,
    pub(crate) sequence: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) jobs: Vec<(JobId, Bytes)>,
}

impl Standing {
    /// The payload of one of its jobs.
    pub(crate) fn payload(&self, job: JobId) -> Option<Bytes> {
        let mut jobs = self.jobs.iter();
        jobs.find_map(|(id, payload)| (*id == job).then(|| payload.clone()))
    }
}

/// Which bundle of one stream a job waits in, as it was read last.
#[derive(Debug, Default)]
pub(crate) struct Finder(tokio::sync::Mutex<Option<Reading>>);

#[derive(Debug, Clone)]
struct Reading {
    at: Instant,
    /// The subject of the list that names a job.
    lists: Arc<HashMap<JobId, Arc<str>>>,
}

impl Finder {
    /// The subject of the list that names `job`, if one did at `since` or later. `lists` are the subjects of all.
    pub(crate) async fn find(
        &self,
        jetstream: &jetstream::Context,
        stream: &str,
        lists: &str,
        job: JobId,
        since: Instant,
    ) -> Result<Option<Arc<str>>, QueueError> {
        let mut last = self.0.lock().await;
        let reading = match &*last {
            Some(reading) if reading.at >= since => reading.clone(),
            Some(_) | None => {
                let at = Instant::now();
                let lists = Arc::new(read_all(jetstream, stream, lists).await?);
                last.insert(Reading { at, lists }).clone()
            }
        };
        Ok(reading.lists.get(&job).cloned())
    }
}

/// Every list of a stream, in requests of some hundred (ADR-31 of NATS). A work queue has no other readers.
async fn read_all(
    jetstream: &jetstream::Context,
    stream: &str,
    lists: &str,
) -> Result<HashMap<JobId, Arc<str>>, QueueError> {
    let mut found = HashMap::new();
    let mut next = 1;
    while let Some(last) = read_some(jetstream, stream, lists, next, &mut found).await? {
        next = last + 1;
    }
    Ok(found)
}

/// The lists from sequence `from` on; answers the last one's sequence where there may be more.
async fn read_some(
    jetstream: &jetstream::Context,
    stream: &str,
    lists: &str,
    from: u64,
    found: &mut HashMap<JobId, Arc<str>>,
) -> Result<Option<u64>, QueueError> {
    let client = jetstream.client();
    let inbox = client.new_inbox();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .map_err(QueueError::refused)?;
    let request = format!(r#"{{"seq":{from},"next_by_subj":"{lists}","batch":{LISTS}}}"#);
    client
        .publish_with_reply(
            format!("$JS.API.DIRECT.GET.{stream}"),
            inbox,
            request.into(),
        )
        .await
        .map_err(QueueError::refused)?;
    let (mut last, mut count) = (None, 0);
    loop {
        let answer = tokio::time::timeout(ANSWER, answers.next()).await;
        let answer =
            answer.map_err(|_| QueueError::refused("a list of jobs was not read in time"))?;
        let answer = answer.ok_or_else(|| QueueError::refused("the connection was closed"))?;
        match answer.status {
            None | Some(StatusCode::OK) => {}
            Some(status) if status == StatusCode::NOT_FOUND || status.as_u16() == END_OF_BATCH => {
                break;
            }
            Some(status) => {
                let reason = answer.description.as_deref().unwrap_or("no reason given");
                return Err(QueueError::Refused(format!("{status}: {reason}")));
            }
        }
        let header = |name| {
            answer
                .headers
                .as_ref()?
                .get(name)
                .map(|value| value.as_str())
        };
        let subject: Arc<str> = header("Nats-Subject").unwrap_or_default().into();
        last = header("Nats-Sequence").and_then(|sequence| sequence.parse().ok());
        count += 1;
        for id in answer.payload.chunks_exact(ID) {
            if let Ok(id) = id.try_into() {
                found.insert(JobId::from_bytes(id), Arc::clone(&subject));
            }
        }
    }
    Ok(last.filter(|_| count == LISTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(due_ms: i64, octets: usize) -> WaitingJob {
        WaitingJob {
            id: JobId::fresh(),
            at: Timestamp::from_millisecond(due_ms).unwrap(),
            payload: vec![b'x'; octets].into(),
            sharing: Sharing::WithOthers,
        }
    }

    fn sizes(jobs: &[WaitingJob]) -> Vec<usize> {
        let bundles = sort(jobs, Timestamp::UNIX_EPOCH);
        bundles.iter().map(Vec::len).collect()
    }

    #[test]
    fn jobs_that_are_due_at_about_the_same_time_share_a_bundle() {
        let jobs = [
            job(10_240, 1),
            job(60_000, 1),
            job(10_000, 1),
            job(61_001, 1),
        ];
        assert_eq!(
            sort(&jobs, Timestamp::UNIX_EPOCH),
            [vec![2, 0], vec![1], vec![3]],
            "a quarter of a second, or a sixty-fourth of the time until then"
        );
        let mut own = job(10_000, 1);
        own.sharing = Sharing::Own;
        assert_eq!(sizes(&[own.clone(), job(10_000, 1), own]), [1, 1, 1]);
        let day = 24 * 3600 * 1000;
        assert_eq!(sizes(&[job(day, 1), job(day + 2001, 1)]), [1, 1]);
    }

    #[test]
    fn a_bundle_is_bounded_by_jobs_and_by_octets() {
        let small: Vec<WaitingJob> = (0..130).map(|_| job(1000, 10)).collect();
        assert_eq!(sizes(&small), [64, 64, 2]);
        let large: Vec<WaitingJob> = (0..5).map(|_| job(1000, 100 << 10)).collect();
        assert_eq!(sizes(&large), [2, 2, 1]);
        assert_eq!(sizes(&[job(1000, 900 << 10), job(1000, 1)]), [1, 1]);
    }

    #[test]
    fn a_bundle_gives_back_what_was_put_in() {
        let jobs = [job(1, 0), job(2, 10), job(3, 300_000)];
        let (payload, list) = encode(jobs.iter().map(|job| (job.id, &job.payload)));
        let given = jobs.iter().map(|job| (job.id, job.payload.clone()));
        assert_eq!(decode(payload.clone()).unwrap(), given.collect::<Vec<_>>());
        assert_eq!(list.len(), 48);
        assert!(decode(payload.slice(..payload.len() - 1)).is_err());
        assert!(decode(payload.slice(..17)).is_err());
    }
}
