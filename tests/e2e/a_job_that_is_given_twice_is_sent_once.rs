//! A nats-server that is killed forgets to whom it gave a job, and gives it to somebody else as well: one of both sends it (ADR 10).
//! What was had before a connection merely broke nobody else has.

use std::collections::BTreeSet;

use anyhow::ensure;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use model::{Class, Domain, JobId};
use queue::{Hold, Holds, Lane, Queue, Stage, Taken};
use tests::{Books, Cluster, PATIENCE, Relay, Setup, eventually, letter, limited, submit_all};

use super::a_killed_node_loses_nothing::kill_all;
use super::a_killed_queue_loses_nothing::SAID_WITHOUT_A_QUEUE;
use super::drained::drained;
use super::under_fire::{balanced, read_stubbornly};
use super::{PROGRAM, broker};

const JOBS: usize = 200;
const CLASS: Class = Class::Bulk;
/// The server writes down whom it gave what within moments; what it was doing when it died it has not.
const ATTEMPTS: usize = 20;
const BREAKS: usize = 3;

/// Who takes jobs out of the queue, as a worker does.
struct Worker {
    queue: Queue,
    holds: Holds,
    lane: Lane,
}

impl Worker {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let queue = Queue::connect(broker::settings(url)).await?;
        let domain = "gmail.example".parse::<Domain>()?;
        let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
        // Nobody beats for them: that is not needed for so short a time.
        let (holds, _) = queue.holds();
        Ok(Self { queue, holds, lane })
    }

    async fn store(&self, count: usize) -> anyhow::Result<()> {
        let domain = "gmail.example".parse::<Domain>()?;
        let publisher = self.queue.publisher();
        for number in 0..count {
            let payload = Bytes::from(number.to_string());
            publisher
                .ready(&self.lane, CLASS, &domain, JobId::fresh(), payload)
                .await?;
        }
        Ok(())
    }

    /// Jobs that the queue gives at once, each with what it is known by.
    async fn pull(&self) -> anyhow::Result<Vec<(Bytes, Hold)>> {
        let (lane, stage) = (&self.lane, Stage::Ready);
        let puller = self.queue.puller(lane, CLASS, stage, &self.holds).await?;
        let taken: Vec<Taken> = puller.pull(JOBS).await?.try_collect().await?;
        let jobs = taken.into_iter().filter_map(|taken| match taken {
            Taken::Job(job) => Some((job.payload, job.hold)),
            Taken::Bundle(_) => None,
        });
        Ok(jobs.collect())
    }
}

#[tokio::test]
async fn what_a_killed_server_may_give_to_somebody_else_is_known_to_be_doubtful()
-> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    for _ in 0..ATTEMPTS {
        let url = cluster.nats_url()?.to_owned();
        let (first, second) = (Worker::connect(&url).await?, Worker::connect(&url).await?);
        first.store(JOBS).await?;
        let ours = first.pull().await?;
        ensure!(!ours.iter().any(|(_, hold)| hold.may_be_shared()));
        cluster.stack()?.nats_mut()[0].kill_and_restart().await?;

        let theirs = eventually("another has jobs", PATIENCE, async || {
            Ok(second.pull().await.ok())
        })
        .await?;
        let given: BTreeSet<&Bytes> = theirs.iter().map(|(payload, _)| payload).collect();
        let both = ours.iter().filter(|(payload, _)| given.contains(payload));
        let both = both.count();
        println!("{both} of {JOBS} were given to another as well");
        ensure!(ours.iter().all(|(_, hold)| hold.may_be_shared()));
        ensure!(!theirs.iter().any(|(_, hold)| hold.may_be_shared()));
        if both > 0 {
            return cluster.finish().await;
        }
        broker::purge(&url, &["B-"]).await?;
    }
    anyhow::bail!("the server never forgot anything: nothing was shown")
}

/// It forgets between two leases of a lane: what is pulled then is numbered anew.
#[tokio::test]
async fn what_a_queue_has_forgotten_is_known_to_be_doubtful_by_whoever_opens_it_again()
-> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let url = cluster.nats_url()?;
    let worker = Worker::connect(url).await?;
    worker.store(JOBS).await?;
    let ours = worker.pull().await?;
    ensure!(ours.len() == JOBS && !ours.iter().any(|(_, hold)| hold.may_be_shared()));
    let stream = format!("B-default-{}", worker.lane.key());
    broker::make_consumer_anew(url, &stream, false).await?;
    worker.pull().await?;
    ensure!(ours.iter().all(|(_, hold)| hold.may_be_shared()));
    cluster.finish().await
}

#[tokio::test]
async fn what_we_had_before_a_connection_broke_is_ours_alone() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let server = cluster.nats_url()?.trim_start_matches("nats://").to_owned();
    let relay = Relay::before(&server).await?;
    let worker = Worker::connect(&format!("nats://{}", relay.address())).await?;
    worker.store(JOBS).await?;
    let ours = worker.pull().await?;
    ensure!(ours.len() == JOBS);
    for _ in 0..BREAKS {
        relay.cut();
        eventually("the connection breaks", PATIENCE, async || {
            Ok((!worker.queue.is_connected()).then_some(()))
        })
        .await?;
        ensure!(
            ours.iter().all(|(_, hold)| hold.may_be_shared()),
            "who knows?"
        );
        relay.mend();
        eventually("they are known to be ours", PATIENCE, async || {
            let are_shared = ours.iter().any(|(_, hold)| hold.may_be_shared());
            Ok((!are_shared).then_some(()))
        })
        .await?;
    }
    cluster.finish().await
}

const WORKERS: usize = 2;
const MESSAGES: usize = 1500;
/// Messages a second, so that most are in hand when one server dies and when it is back.
const RATE: u32 = 200;
/// The same where it takes longer until the queue goes on.
const LOW_RATE: u32 = 50;
const CONNECTIONS: u32 = 4;

#[tokio::test]
async fn of_two_workers_that_share_a_lane_one_sends_it() -> anyhow::Result<()> {
    let mut setup = Setup::new(PROGRAM);
    for message in SAID_WITHOUT_A_QUEUE {
        setup = setup.allowing(message);
    }
    one_sends_it(setup, RATE, async |cluster| {
        cluster.stack()?.nats_mut()[0].kill_and_restart().await
    })
    .await
}

/// Several servers keep in memory to whom they gave what (ADR 32).
#[tokio::test]
async fn of_two_workers_of_servers_that_all_die_one_sends_it() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).on_three_nodes().saying_anything();
    // Holds are good for longer than the servers are away.
    let setup = setup.configured(|config| config.nats.ack_wait = "30s".into());
    one_sends_it(setup, LOW_RATE, kill_all).await
}

/// As where all servers die that keep copies of a stream, and the one that is connected to keeps none (ADR 32).
#[tokio::test]
async fn of_two_workers_of_a_queue_that_forgets_unseen_one_sends_it() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .allowing("pull failed, trying again")
        .configured(|config| config.nats.ack_wait = "30s".into());
    one_sends_it(setup, LOW_RATE, async |cluster| {
        broker::make_consumer_anew(cluster.nats_url()?, "T-default-h0", false).await
    })
    .await
}

/// Two workers have jobs of one lane in hand when `kill` makes the broker forget that.
async fn one_sends_it(
    setup: Setup,
    rate: u32,
    kill: impl AsyncFnOnce(&mut Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let setup = setup.configured(|config| {
        config.nats.lanes = 1;
        config.delivery.providers = vec![limited("gmail", rate)];
        config.delivery.limits.connections = CONNECTIONS;
    });
    let mut cluster = setup.start_with(WORKERS).await?;
    let (api, mut books) = (cluster.api(0)?, Books::default());
    let mut events = api.events().await?;
    let letters = (0..MESSAGES).map(|number| letter(&format!("customer{number}@gmail.example")));
    submit_all(&api, letters, |answer| books.accepted(answer)).await?;
    books
        .read_until_ended(MESSAGES / 10, &mut events, PATIENCE)
        .await?;
    drop(events);
    kill(&mut cluster).await?;
    read_stubbornly(&mut books, MESSAGES, &api).await?;
    drained(cluster.nats_url()?).await?;
    let duplicates = balanced(&books, &cluster, MESSAGES)?;
    ensure!(
        duplicates.len() <= CONNECTIONS as usize * WORKERS,
        "{} duplicates: {duplicates:#?}",
        duplicates.len()
    );
    cluster.finish().await
}
