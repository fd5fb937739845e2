//! A job stands in the queue several times, as it may after an outage that separated what was stored from what was
//! acknowledged: it is sent once.

use std::time::Duration;

use anyhow::{bail, ensure};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use jiff::SignedDuration;
use model::{Class, Clock as _, Domain, JobId, SystemClock};
use queue::{Lane, Pulled, Queue, Settings, Sharing, Stage, Taken};
use tests::{Books, PATIENCE, Setup, eventually, letter, replace, submit_all};
use tokio::time::Instant;

use super::PROGRAM;
use super::broker;
use super::drained::drained;

const COPIES: usize = 5;
/// Messages of calls that are repeated.
const REPEATED: usize = 20;
const CLASS: Class = Class::Transactional;

#[tokio::test]
async fn copies_of_a_job_are_sent_once() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    // Every reply comes late: all copies are in hand before the first of them is sent.
    books.accepted(api.submit(letter("slow@gmail.example")).await?);
    let url = cluster.nats_url()?.to_owned();
    copy(&url).await?;

    cluster.stack()?.start_worker("worker-1")?;
    let mut events = api.events().await?;
    books.read_until_ended(1, &mut events, PATIENCE).await?;
    drained(&url).await?;
    assert_eq!(cluster.ledger()?.len(), 1);
    cluster.finish().await
}

/// So many others wait with a job.
const COMPANY: usize = 20;
/// No schedule of these tests fires within them.
const NEVER: SignedDuration = SignedDuration::from_hours(1);

/// The job has come due, and the schedule that it came of still seems to stand, as the server shows it that is behind, or was killed.
/// A worker that forgot the job for it would lose it.
#[tokio::test]
async fn a_job_is_not_forgotten_for_the_schedule_that_it_came_of() -> anyhow::Result<()> {
    is_sent_although_it_waits(Waiting::schedule).await
}

/// The same where it waited in a schedule that others share.
#[tokio::test]
async fn a_job_is_not_forgotten_for_the_bundle_that_it_came_of() -> anyhow::Result<()> {
    is_sent_although_it_waits(Waiting::schedule_with_others).await
}

async fn is_sent_although_it_waits(
    schedule: impl AsyncFnOnce(&Waiting) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    books.accepted(api.submit(letter("ann@gmail.example")).await?);
    let url = cluster.nats_url()?.to_owned();
    let waiting = Waiting::of_the_job(&url).await?;
    schedule(&waiting).await?;
    waiting.come_due().await?;

    cluster.stack()?.start_worker("worker-1")?;
    let mut events = api.events().await?;
    books.read_until_ended(1, &mut events, PATIENCE).await?;
    assert_eq!(cluster.ledger()?.len(), 1);
    cluster.finish().await
}

/// The same job, and one that was stored behind it: whoever had the job parked it, and died before it was acknowledged.
#[tokio::test]
async fn a_job_is_forgotten_for_a_schedule_that_was_stored_behind_it() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    api.submit(letter("ann@gmail.example")).await?;
    let url = cluster.nats_url()?.to_owned();
    let waiting = Waiting::of_the_job(&url).await?;
    waiting.come_due().await?;
    waiting.schedule().await?;

    cluster.stack()?.start_worker("worker-1")?;
    cluster
        .logged("worker-1", "job was deferred before, its schedule goes on")
        .await?;
    assert_eq!(cluster.ledger()?.len(), 0);
    cluster.finish().await
}

/// The one job there is, taken out of its stream.
struct Waiting {
    queue: Queue,
    url: String,
    jetstream: jetstream::Context,
    lane: Lane,
    domain: Domain,
    payload: Bytes,
}

impl Waiting {
    async fn of_the_job(url: &str) -> anyhow::Result<Self> {
        let queue = Queue::connect(broker::settings(url)).await?;
        let (lane, domain, job) = the_job(&queue).await?;
        let payload = job.payload.clone();
        job.hold.settle_now().await;
        let client = async_nats::connect(url).await?;
        Ok(Self {
            queue,
            url: url.to_owned(),
            jetstream: jetstream::new(client),
            lane,
            domain,
            payload,
        })
    }

    /// Stores a schedule of its own for it.
    async fn schedule(&self) -> anyhow::Result<()> {
        let job = api::decode_job(self.payload.clone())?.id;
        let at = SystemClock.now().checked_add(NEVER)?;
        let (publisher, payload) = (self.queue.publisher(), self.payload.clone());
        let stored = publisher.schedule(CLASS, &self.domain, job, at, payload, Sharing::Own);
        Ok(stored.await?)
    }

    /// Stores it in a schedule with others, which are no jobs.
    async fn schedule_with_others(&self) -> anyhow::Result<()> {
        let job = api::decode_job(self.payload.clone())?.id;
        let at = SystemClock.now().checked_add(NEVER)?;
        let others = (0..COMPANY).map(|_| (JobId::fresh(), Bytes::new()));
        // Who comes first finds no company.
        let all = others.chain([(job, self.payload.clone())]);
        let publisher = self.queue.publisher();
        let stored = all.map(|(job, payload)| {
            publisher.schedule(CLASS, &self.domain, job, at, payload, Sharing::WithOthers)
        });
        try_join_all(stored).await?;
        let found = publisher.pending_schedule(CLASS, &self.domain, job).await?;
        let payload = found.map(|pending| pending.payload);
        ensure!(payload.as_ref() == Some(&self.payload), "it does not wait");
        let own = format!("{job}");
        let subjects = broker::subjects(&self.url).await?;
        ensure!(
            !subjects.iter().any(|subject| subject.ends_with(&own)),
            "it waits alone"
        );
        Ok(())
    }

    /// Stores it as one that has come due.
    async fn come_due(&self) -> anyhow::Result<()> {
        let due = format!("dr.t.default.{}", self.lane.key());
        let stored = self.jetstream.publish(due, self.payload.clone()).await?;
        stored.await?;
        Ok(())
    }
}

/// So long after a worker has come, what is stored is looked up for no other reason.
const SETTLED_IN: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_job_that_a_repeated_call_stores_after_its_end_is_not_sent_again() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    books.accepted(api.submit(letter("ann@gmail.example")).await?);
    let url = cluster.nats_url()?.to_owned();
    let queue = Queue::connect(broker::settings(&url)).await?;
    let (lane, domain, job) = the_job(&queue).await?;
    let payload = job.payload.clone();
    job.hold.release().await;

    cluster.stack()?.start_worker("worker-1")?;
    cluster.logged("worker-1", "delivery working").await?;
    let mut events = api.events().await?;
    books.read_until_ended(1, &mut events, PATIENCE).await?;
    tokio::time::sleep(SETTLED_IN).await;
    // Another id stands for a stream that does not know the job's.
    queue
        .publisher()
        .ready_again(&lane, CLASS, &domain, JobId::fresh(), payload)
        .await?;
    drained(&url).await?;
    assert_eq!(cluster.ledger()?.len(), 1);
    cluster.finish().await
}

/// A call stored jobs in the overflow lane, was not answered, and was repeated: workers that share the lanes come to both copies at
/// the same moment.
#[tokio::test]
async fn a_job_that_a_repeated_call_stores_beside_it_is_sent_once() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| config.nats.lanes = 1);
    let mut cluster = setup.start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    // Every reply comes late: either copy is in hand before the other is sent.
    let letters = (0..REPEATED).map(|_| letter("slow@gmail.example"));
    submit_all(&api, letters, |answer| books.accepted(answer)).await?;
    let url = cluster.nats_url()?.to_owned();
    let queue = of_one_lane(&url).await?;
    let payloads = all_taken(&queue).await?;

    let workers = ["worker-1", "worker-2"];
    for worker in workers {
        cluster.stack()?.start_worker(worker)?;
    }
    cluster.shared_out(&workers, PATIENCE).await?;
    tokio::time::sleep(SETTLED_IN).await;
    let (publisher, domain) = (queue.publisher(), "gmail.example".parse::<Domain>()?);
    let own = queue.lanes().lane(&domain, JobId::fresh());
    let overflow = queue
        .lanes()
        .overflow(&api::decode_job(payloads[0].clone())?.tenant);
    let stored = payloads.iter().map(|payload| async {
        let (first, again) = (payload.clone(), payload.clone());
        tokio::try_join!(
            publisher.ready(overflow, CLASS, &domain, JobId::fresh(), first),
            publisher.ready_again(own, CLASS, &domain, JobId::fresh(), again),
        )
    });
    try_join_all(stored).await?;
    let mut events = cluster.api(0)?.events().await?;
    books
        .read_until_ended(REPEATED, &mut events, PATIENCE)
        .await?;
    drained(&url).await?;
    let sent = cluster.ledger()?.len();
    assert_eq!(sent, REPEATED, "{} were sent twice", sent - REPEATED);
    cluster.finish().await
}

/// Within it a job that was pulled stands in the line of its site.
const SCREENING: Duration = Duration::from_millis(500);
/// How long another worker has reserved a job: longer than this one relies on its own reservation.
const ANOTHERS: Duration = Duration::from_secs(12);

/// A job waits for the slow one in front of it, and its reservation has become another's when its turn comes.
#[tokio::test]
async fn a_job_that_another_reserves_behind_a_slow_one_is_left_to_it() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.lanes = 1;
        config.delivery.limits.connections = 1;
    });
    let mut cluster = setup.start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    let mailboxes = [
        "slow@gmail.example",
        "slow@gmail.example",
        "ann@gmail.example",
    ];
    for mailbox in mailboxes {
        books.accepted(api.submit(letter(mailbox)).await?);
    }
    let url = cluster.nats_url()?.to_owned();
    let queue = of_one_lane(&url).await?;
    let payloads = all_taken(&queue).await?;
    let waiting = api::decode_job(payloads[2].clone())?.id;
    let domain = "gmail.example".parse::<Domain>()?;
    let lane = queue.lanes().lane(&domain, JobId::fresh());

    cluster.stack()?.start_worker("worker-1")?;
    // The first keeps the connection until the others stand behind it in this order.
    for payload in payloads {
        let publisher = queue.publisher();
        publisher
            .ready_again(lane, CLASS, &domain, JobId::fresh(), payload)
            .await?;
        eventually("the job is pulled", PATIENCE, async || {
            let left = broker::undelivered(&url, &["T-"]).await?;
            Ok((left == 0).then_some(()))
        })
        .await?;
        tokio::time::sleep(SCREENING).await;
    }
    let redis = cluster.stack()?.redis().url.clone();
    let key = format!("{{postrider}}:reserved:{waiting}");
    let taken_over = eventually("the job is reserved", PATIENCE, async || {
        let now = Instant::now();
        let is_taken_over = replace(&redis, &key, "another", ANOTHERS).await?;
        Ok(is_taken_over.then_some(now))
    })
    .await?;
    let mut events = api.events().await?;
    books
        .read_until_ended(mailboxes.len(), &mut events, PATIENCE)
        .await?;
    ensure!(
        taken_over.elapsed() >= ANOTHERS,
        "sent after {:?}, while another had it",
        taken_over.elapsed()
    );
    drained(&url).await?;
    assert_eq!(cluster.ledger()?.len(), mailboxes.len());
    cluster.finish().await
}

/// The queue of a cluster with one lane.
async fn of_one_lane(url: &str) -> anyhow::Result<Queue> {
    let settings = Settings {
        hashed_lanes: 1,
        ..broker::settings(url)
    };
    Ok(Queue::connect(settings).await?)
}

/// The payloads of all ready jobs, which are settled.
async fn all_taken(queue: &Queue) -> anyhow::Result<Vec<Bytes>> {
    let (holds, _) = queue.holds();
    let mut payloads = Vec::new();
    for lane in queue.lanes().lanes() {
        let puller = queue.puller(lane, CLASS, Stage::Ready, &holds).await?;
        loop {
            let taken: Vec<Taken> = puller.pull(250).await?.try_collect().await?;
            if taken.is_empty() {
                break;
            }
            for taken in taken {
                let Taken::Job(job) = taken else { continue };
                payloads.push(job.payload.clone());
                job.hold.settle_now().await;
            }
        }
    }
    holds.flush().await;
    Ok(payloads)
}

/// Stores the one job there is again and again, each time under another id.
async fn copy(url: &str) -> anyhow::Result<()> {
    let queue = Queue::connect(broker::settings(url)).await?;
    let (lane, domain, job) = the_job(&queue).await?;
    for _ in 1..COPIES {
        let (id, payload) = (JobId::fresh(), job.payload.clone());
        queue
            .publisher()
            .ready(&lane, CLASS, &domain, id, payload)
            .await?;
    }
    job.hold.release().await;
    Ok(())
}

/// The one job there is, taken, and where it stood.
async fn the_job(queue: &Queue) -> anyhow::Result<(Lane, Domain, Pulled)> {
    let (holds, _) = queue.holds();
    let domain = "gmail.example".parse::<Domain>()?;
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    let puller = queue.puller(&lane, CLASS, Stage::Ready, &holds).await?;
    let taken: Vec<Taken> = puller.pull(1).await?.try_collect().await?;
    match taken.into_iter().next() {
        Some(Taken::Job(job)) => Ok((lane, domain, job)),
        Some(Taken::Bundle(_)) | None => bail!("no job came"),
    }
}
