//! Jobs that are to wait until about the same moment share one schedule; each of them is found, cancelled, sent once and
//! at its time all the same (ADR 19).

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::v1::submit_result::Outcome;
use api::v1::{CancelRequest, SubmitBatchRequest, SubmitRequest, SubmitResponse};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::{join_all, try_join_all};
use jiff::{SignedDuration, Timestamp};
use model::{ByteSize, Class, Clock as _, Domain, JobId, SystemClock};
use queue::{Queue, Sharing, Stage, Taken};
use rustix::process::Signal;
use tests::{Books, Cluster, PATIENCE, Setup, eventually, letter};

use super::PROGRAM;
use super::broker;
use super::drained::{drained, jobs};
use super::wire::{State, Wire};

const MESSAGES: usize = 400;
const AHEAD: SignedDuration = SignedDuration::from_secs(8);
/// How long after its time a message may come.
const LATE: SignedDuration = SignedDuration::from_secs(4);
/// How long a cancellation may take.
const MOMENTS: Duration = Duration::from_secs(5);
const DOMAIN: &str = "gmail.example";
/// How many lists one request answers at most.
const PAGE: usize = 500;
const BUNDLES: u32 = 1100;
/// Jobs that go into one batch.
const TOGETHER: usize = 200;
/// Longer than a store waits to be acknowledged, and shorter than what is unknown then is looked for.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);

/// What a server may store that is to be full.
const STORE: u64 = 64 << 20;
/// Jobs of a bundle at most.
const MOST_OF_A_BUNDLE: usize = 64;
/// Octets of a job of which some hundred are too many for what is left of it.
const LARGE: usize = 4000;
/// What a server needs to store what it was sent.
const STORED: Duration = Duration::from_secs(2);
/// Longer than anybody waits for an answer, or looks for what was not answered.
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test]
async fn jobs_that_wait_together_are_sent_once_each_and_at_their_time() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).saying_anything();
    let mut cluster = setup.start_with(0).await?;
    let send_at = after(AHEAD)?;
    let sent = submit(&cluster, send_at).await?;
    let waiting: u64 = jobs(cluster.nats_url()?).await?.values().sum();
    assert!(waiting < 100, "{waiting} messages for {MESSAGES} jobs");
    // What was stored together survives its server as what was stored alone does.
    cluster.stack()?.nats_mut()[0].kill_and_restart().await?;

    cluster.stack()?.start_worker("worker-1")?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    sent.into_iter().for_each(|sent| books.accepted(sent));
    books
        .read_until_ended(MESSAGES, &mut api.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let ledger = cluster.ledger()?;
    for entry in &ledger {
        let late = entry.time.duration_since(send_at);
        assert!((SignedDuration::ZERO..LATE).contains(&late), "{entry:?}");
    }
    let reconciled = books.reconcile(ledger);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert!(reconciled.duplicates.is_empty());
    cluster.finish().await
}

#[tokio::test]
async fn one_of_many_is_cancelled_at_once_and_never_sent() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let send_at = after(AHEAD)?;
    let sent = submit(&cluster, send_at).await?;
    let cancelled = sent[MESSAGES / 2].clone();
    let mut books = Books::default();
    sent.into_iter().for_each(|sent| books.accepted(sent));
    let waiting: u64 = jobs(cluster.nats_url()?).await?.values().sum();
    assert!(waiting < 100, "{waiting} messages for {MESSAGES} jobs");
    eventually("its timeline is written", MOMENTS, async || {
        let id = cancelled.message_id.clone();
        Ok(api.messages().cancel(CancelRequest { id }).await.ok())
    })
    .await?;
    let mut events = api.events().await?;
    books.read_until_ended(1, &mut events, MOMENTS).await?;
    assert!(SystemClock.now() < send_at, "it was cancelled in its time");

    books
        .read_until_ended(MESSAGES, &mut events, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let ledger = cluster.ledger()?;
    assert_eq!(ledger.len(), MESSAGES - 1);
    let reconciled = books.reconcile(ledger);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    cluster.finish().await
}

/// A redelivery of a job that was deferred with others finds its schedule. A worker that dies behind putting the jobs
/// back leaves the bundle to another, and each job is stored once.
#[tokio::test]
async fn each_job_of_a_bundle_is_found_and_put_back_once() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let url = cluster.nats_url()?.to_owned();
    let queue = Queue::connect(broker::settings(&url)).await?;
    let (publisher, domain) = (queue.publisher(), DOMAIN.parse::<Domain>()?);
    let class = Class::Bulk;
    let at = after(SignedDuration::from_secs(5))?;
    let given: Vec<(JobId, Bytes)> = (0..MESSAGES)
        .map(|number| (JobId::fresh(), Bytes::from(format!("job {number}"))))
        .collect();
    // The first ones find nobody in their way, and have schedules of their own.
    let schedule = |(job, payload): &(JobId, Bytes)| {
        publisher.schedule(
            class,
            &domain,
            *job,
            at,
            payload.clone(),
            Sharing::WithOthers,
        )
    };
    try_join_all(given.iter().map(schedule)).await?;
    for (job, payload) in &given {
        let found = publisher.pending_schedule(class, &domain, *job).await?;
        let found = found.map(|pending| pending.payload);
        assert_eq!(found.as_ref(), Some(payload), "{job}");
    }
    let unknown = publisher
        .pending_schedule(class, &domain, JobId::fresh())
        .await?;
    assert!(unknown.is_none(), "{unknown:?}");

    let (holds, _) = queue.holds();
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    let puller = queue.puller(&lane, class, Stage::Deferred, &holds).await?;
    let (mut came, mut bundles, mut repeated) = (HashSet::new(), HashSet::new(), false);
    // The last pull brings nothing.
    loop {
        let pulled: Vec<Taken> = puller.pull(250).await?.try_collect().await?;
        if pulled.is_empty() && !came.is_empty() {
            break;
        }
        for taken in pulled {
            match taken {
                Taken::Job(job) => {
                    assert!(came.insert(job.payload.clone()), "{:?} twice", job.payload);
                    job.hold.settle_now().await;
                }
                Taken::Bundle(bundle) => {
                    if bundles.is_empty() {
                        repeat_bundle(&url).await?;
                    }
                    repeated |= !bundles.insert(bundle.id().to_owned());
                    publisher.unpack(bundle).await?;
                }
            }
        }
    }
    assert_eq!(came.len(), MESSAGES);
    assert!(repeated, "no bundle came twice");
    holds.flush().await;
    drained(&url).await?;
    cluster.finish().await
}

/// More lists than one request answers are read page by page.
#[tokio::test]
async fn one_of_a_thousand_bundles_is_found() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let queue = Queue::connect(broker::settings(cluster.nats_url()?)).await?;
    let (publisher, domain) = (queue.publisher(), DOMAIN.parse::<Domain>()?);
    let soon = after(SignedDuration::from_secs(3600))?;
    // Neighbours are due together, and far from the others.
    let given: Vec<(JobId, Timestamp)> = (0..2 * BUNDLES)
        .map(|number| {
            let pause = SignedDuration::from_secs(i64::from(number / 2) * 60);
            Ok((JobId::fresh(), soon.checked_add(pause)?))
        })
        .collect::<anyhow::Result<_>>()?;
    let schedule = |(job, at): &(JobId, Timestamp)| {
        let (payload, sharing) = (job.to_string().into(), Sharing::WithOthers);
        publisher.schedule(Class::Bulk, &domain, *job, *at, payload, sharing)
    };
    try_join_all(given.iter().map(schedule)).await?;
    let lists = subjects(cluster.nats_url()?, ".list.").await?;
    assert!(lists.len() > PAGE, "only {} lists", lists.len());
    for (job, _) in &given {
        let found = publisher
            .pending_schedule(Class::Bulk, &domain, *job)
            .await?;
        let found = found.map(|pending| pending.payload);
        assert_eq!(found, Some(Bytes::from(job.to_string())));
    }
    cluster.finish().await
}

/// The queue stands still while jobs are stored together, for longer than they wait for it: what it stores in the end is
/// found, and no job waits twice.
#[tokio::test]
async fn what_was_stored_together_too_late_is_not_stored_again() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).saying_anything().start_with(0).await?;
    let url = cluster.nats_url()?.to_owned();
    let queue = Queue::connect(broker::settings(&url)).await?;
    let (publisher, domain) = (queue.publisher(), DOMAIN.parse::<Domain>()?);
    let at = after(SignedDuration::from_secs(3600))?;
    let schedule = |job: JobId| {
        let (payload, sharing) = (job.to_string().into(), Sharing::WithOthers);
        publisher.schedule(Class::Bulk, &domain, job, at, payload, sharing)
    };
    let jobs = || (0..TOGETHER).map(|_| JobId::fresh());
    // From the second batch on they wait for each other.
    try_join_all(jobs().map(schedule)).await?;
    let before = subjects(&url, ".bundle.").await?.len();
    let server = cluster.stack()?.nats()[0].child();
    server.signal(Signal::STOP)?;
    let late: Vec<JobId> = jobs().collect();
    let stored = try_join_all(late.iter().copied().map(schedule));
    let standing = async {
        tokio::time::sleep(UNACKNOWLEDGED).await;
        server.signal(Signal::CONT)
    };
    tokio::try_join!(async { Ok(stored.await?) }, standing)?;

    let bundles = subjects(&url, ".bundle.").await?.len();
    assert!(bundles > before, "nothing was stored too late");
    for job in late {
        let own = subjects(&url, &job.to_string()).await?.len();
        assert_eq!(own, 0, "{job} has a second schedule");
    }
    cluster.finish().await
}

/// Whoever gets such jobs again finds them waiting and forgets them. What the one that stored them does not know must then take
/// nothing away, however late it reaches the server.
#[tokio::test]
async fn what_was_stored_together_comes_though_the_answer_is_lost() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).saying_anything().start_with(0).await?;
    let (_, port) = cluster.nats_url()?.rsplit_once(':').context("a port")?;
    let wire = Wire::to(port.parse()?).await?;
    let through = format!("nats://127.0.0.1:{}", wire.port());
    let queue = Queue::connect(broker::settings(&through)).await?;
    let (publisher, domain) = (queue.publisher(), DOMAIN.parse::<Domain>()?);
    let at = after(SignedDuration::try_from(STORED + AWAY + STORED)?)?;
    let schedule = |job: &JobId| {
        let (payload, sharing) = (job.to_string().into(), Sharing::WithOthers);
        publisher.schedule(Class::Bulk, &domain, *job, at, payload, sharing)
    };
    let mut jobs: Vec<JobId> = (0..2 * TOGETHER).map(|_| JobId::fresh()).collect();
    let (answered, unanswered) = jobs.split_at(TOGETHER);
    try_join_all(answered.iter().map(schedule)).await?;

    wire.set(State::Deaf);
    let storing = join_all(unanswered.iter().map(schedule));
    let losing = async {
        tokio::time::sleep(STORED).await;
        wire.set(State::Cut);
        tokio::time::sleep(AWAY).await;
        wire.set(State::Open);
    };
    let (answers, ()) = tokio::join!(storing, losing);
    assert!(answers.iter().any(Result::is_err), "all was answered");

    let (holds, _) = queue.holds();
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    let puller = queue.puller(&lane, Class::Bulk, Stage::Deferred, &holds);
    let puller = puller.await?;
    eventually("all jobs come", PATIENCE, async || {
        let pulled: Vec<Taken> = puller.pull(250).await?.try_collect().await?;
        for taken in pulled {
            match taken {
                Taken::Job(job) => jobs.retain(|id| id.to_string() != job.payload),
                Taken::Bundle(bundle) => publisher.unpack(bundle).await?,
            }
        }
        Ok(jobs.is_empty().then_some(()))
    })
    .await
    .with_context(|| format!("{} are lost", jobs.len()))?;
    cluster.finish().await
}

/// A server whose storage is full before it has come to the end of a batch stores what is in front of that, and answers nothing.
/// Then there is room again.
#[tokio::test]
async fn what_was_stored_together_in_part_is_not_taken_for_stored() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).storing_at_most(ByteSize(STORE));
    let cluster = setup.saying_anything().start_with(0).await?;
    let url = cluster.nats_url()?.to_owned();
    let queue = Queue::connect(queue::Settings {
        ready_bytes: ByteSize(STORE / 8),
        event_bytes: ByteSize(STORE / 8),
        ..broker::settings(&url)
    })
    .await?;
    let (publisher, domain) = (queue.publisher(), DOMAIN.parse::<Domain>()?);
    let at = after(SignedDuration::try_from(AWAY)?)?;
    let jobs: Vec<JobId> = (0..TOGETHER).map(|_| JobId::fresh()).collect();
    let schedule = |job: &JobId| {
        let payload = format!("{:>LARGE$}", job.to_string()).into();
        publisher.schedule(Class::Bulk, &domain, *job, at, payload, Sharing::WithOthers)
    };
    broker::fill(&url).await?;
    // Room for some of the bundles.
    broker::make_room(&url, 1).await?;
    let storing = join_all(jobs.iter().map(schedule));
    let making_room = async {
        tokio::time::sleep(STORED).await;
        let standing = subjects(&url, ".bundle.").await?.len();
        broker::make_room(&url, 3).await?;
        anyhow::Ok(standing)
    };
    let (answers, standing) = tokio::join!(storing, making_room);
    let standing = standing?;
    broker::make_room(&url, 100).await?;
    assert!(
        (1..=TOGETHER / MOST_OF_A_BUNDLE).contains(&standing),
        "{standing} bundles stand"
    );
    let stored = jobs
        .iter()
        .zip(answers)
        .filter(|(_, answer)| answer.is_ok());
    let mut stored: Vec<String> = stored.map(|(job, _)| job.to_string()).collect();
    assert!(stored.len() > TOGETHER / 2, "{} are stored", stored.len());

    let (holds, _) = queue.holds();
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    let puller = queue.puller(&lane, Class::Bulk, Stage::Deferred, &holds);
    let puller = puller.await?;
    eventually("all that is stored comes", PATIENCE, async || {
        let pulled: Vec<Taken> = puller.pull(250).await?.try_collect().await?;
        for taken in pulled {
            match taken {
                Taken::Job(job) => stored.retain(|id| job.payload.trim_ascii() != id.as_bytes()),
                Taken::Bundle(bundle) => publisher.unpack(bundle).await?,
            }
        }
        Ok(stored.is_empty().then_some(()))
    })
    .await
    .with_context(|| format!("{} are lost", stored.len()))?;
    cluster.finish().await
}

/// What stands in the streams of deferred jobs under a subject with `part` in it.
async fn subjects(url: &str, part: &str) -> anyhow::Result<Vec<String>> {
    let mut found = broker::subjects(url).await?;
    found.retain(|subject| subject.contains(part));
    Ok(found)
}

/// Puts a bundle that is due into its stream once more, as if it had not been settled.
async fn repeat_bundle(url: &str) -> anyhow::Result<()> {
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    let context = jetstream::new(client);
    for (name, info) in broker::streams(url).await? {
        let stream = context.get_stream(&name).await.context("find the stream")?;
        if !name.starts_with("DB-") {
            continue;
        }
        for sequence in info.state.first_sequence..=info.state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else {
                continue;
            };
            let is_due = message.subject.starts_with("dr.");
            let Some(id) = message.headers.get("Postrider-Bundle").filter(|_| is_due) else {
                continue;
            };
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Postrider-Bundle", id.clone());
            let stored = context.publish_with_headers(message.subject, headers, message.payload);
            stored.await?.await?;
            return Ok(());
        }
    }
    bail!("no bundle is due")
}

/// Submits all messages in one call, to be sent at `at`.
async fn submit(cluster: &Cluster, at: Timestamp) -> anyhow::Result<Vec<SubmitResponse>> {
    let message = |number| SubmitRequest {
        send_at: Some(api::timestamp_to_wire(at)),
        ..letter(&format!("customer{number}@{DOMAIN}"))
    };
    let request = SubmitBatchRequest {
        messages: (0..MESSAGES).map(message).collect(),
    };
    let answered = cluster.api(0)?.submission().submit_batch(request).await?;
    let results = answered.into_inner().results.into_iter();
    results
        .map(|result| match result.outcome {
            Some(Outcome::Accepted(sent)) => Ok(sent),
            refused => bail!("{refused:?}"),
        })
        .collect()
}

fn after(pause: SignedDuration) -> anyhow::Result<Timestamp> {
    Ok(SystemClock.now().checked_add(pause)?)
}
