//! What is settled is removed from its stream together, up to the first job that is not settled, but for the newest of the
//! stream; that one, and what is settled behind a job that is not, is acknowledged job by job (ADR 24), and everything is where
//! streams have copies. What was given back comes again at once all the same. Of deferred jobs the schedules between them stay.

use std::cell::Cell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{Subscriber, jetstream};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use model::{Class, Domain, JobId};
use postrider::local::NatsServer;
use queue::{Hold, Holds, Lane, Publisher, Puller, Queue, Stage, Taken};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tests::{Cluster, PATIENCE, Setup, eventually, number};

use super::PROGRAM;
use super::broker;

const CLASS: Class = Class::Transactional;
const JOBS: usize = 100;
const COPIES: usize = 3;
/// Not for long, where jobs are to come again.
const ACK_WAIT: Duration = Duration::from_secs(2);
/// One that stays in hand.
const BUSY: usize = 30;
const ROUNDS: usize = 12;
/// So many were settled before the crash, and these last.
const SETTLED: usize = 5;
const SETTLED_LAST: Range<usize> = 50..80;
/// Longer than the broker is not asked up to where everything is acknowledged.
const ASKED_AGAIN: Duration = Duration::from_secs(3);
/// Where jobs are deferred, a schedule stands in front of one in so many.
const SCHEDULE_EVERY: usize = 7;

#[tokio::test]
async fn what_is_settled_leaves_together_and_takes_nothing_else_along() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let queue = Queue::connect(broker::settings(cluster.nats_url()?)).await?;
    let (holds, keep) = queue.holds();
    let mut stream = Stream::open(&cluster, &queue, &holds, Stage::Ready).await?;
    let passed = async {
        leave_together(&mut stream).await?;
        leave_in_any_order(&stream).await?;
        come_again(&stream).await
    };
    tokio::select! {
        () = keep => bail!("settled jobs are no longer looked after"),
        passed = passed => passed?,
    }

    for hold in stream.jobs().await?.into_iter().skip(JOBS / 2) {
        hold.settle();
    }
    holds.flush().await;
    stream.left(JOBS / 2).await?;
    cluster.finish().await
}

#[tokio::test]
async fn what_was_deferred_leaves_together_and_leaves_schedules_standing() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let queue = Queue::connect(broker::settings(cluster.nats_url()?)).await?;
    let (holds, keep) = queue.holds();
    let mut stream = Stream::open(&cluster, &queue, &holds, Stage::Deferred).await?;
    let passed = async {
        // What the first stands behind is not known.
        for hold in stream.jobs().await? {
            hold.settle();
        }
        stream.left(0).await?;
        stream.told().await?;
        // Until the broker is asked again.
        tokio::time::sleep(ASKED_AGAIN).await;
        leave_together(&mut stream).await
    };
    tokio::select! {
        () = keep => bail!("settled jobs are no longer looked after"),
        passed = passed => passed?,
    }
    cluster.finish().await
}

/// A server that crashed has written what was acknowledged, and not what it removed then: it keeps copies of jobs that it gives
/// to nobody, also among jobs that are still to be settled. None is removed while one of these is in hand.
#[tokio::test]
async fn copies_that_a_crash_left_are_removed_once_nothing_is_in_hand_from_before()
-> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let settings = queue::Settings {
        ack_wait: ACK_WAIT,
        ..broker::settings(cluster.nats_url()?)
    };
    let queue = Queue::connect(settings).await?;
    let (holds, keep) = queue.holds();
    let stream = Stream::open(&cluster, &queue, &holds, Stage::Ready).await?;
    let passed = async {
        let mut held = stream.jobs().await?;
        let stored = stream.store(&cluster);
        let before = cluster.file("before");
        copy(&stored, &before)?;
        let busy = held.remove(BUSY);
        for hold in held {
            hold.settle();
        }
        stream.left(1).await?;
        // What one had written that was killed depends on when: this one has written what was acknowledged.
        cluster.stack()?.nats_mut()[0].end_in_order().await?;
        std::fs::remove_dir_all(&stored)?;
        copy(&before, &stored)?;
        cluster.stack()?.nats_mut()[0].start_again().await?;
        drop(busy);
        let again = eventually("the busy one comes again", PATIENCE, async || {
            let pulled = stream.pull().await?;
            Ok((!pulled.is_empty()).then_some(pulled))
        });
        let again = again.await?;
        stream.left(JOBS).await?;
        for hold in again {
            hold.settle();
        }
        stream.left(0).await
    };
    tokio::select! {
        () = keep => bail!("settled jobs are no longer looked after"),
        passed = passed => passed?,
    }
    cluster.finish().await
}

/// A nats-server that crashed may also have written what it removed last, and not what was acknowledged last. If it removes copies
/// then, it takes for acknowledged what it had delivered before the last of these, once the next job behind that is settled: it
/// gives that to nobody any more, and removes it when it is started next (ADR 24).
#[tokio::test]
async fn what_was_in_hand_at_a_crash_comes_again_after_others_are_settled() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let settings = queue::Settings {
        ack_wait: ACK_WAIT,
        ..broker::settings(cluster.nats_url()?)
    };
    leave_as_a_crash_would(&mut cluster, settings.clone()).await?;

    let queue = Queue::connect(settings).await?;
    let (holds, keep) = queue.holds();
    let stream = Stream::open(&cluster, &queue, &holds, Stage::Ready).await?;
    let passed = async {
        let mut held = stream.come(JOBS - SETTLED - SETTLED_LAST.len()).await?;
        let next = held.remove(SETTLED_LAST.start - SETTLED);
        next.settle_now().await;
        let in_hand = held.len();
        drop(held);
        for hold in stream.come(in_hand).await? {
            hold.settle();
        }
        stream.left(0).await
    };
    tokio::select! {
        () = keep => bail!("settled jobs are no longer looked after"),
        passed = passed => passed?,
    }
    cluster.finish().await
}

/// Leaves jobs that were all delivered: the first settled, with copies of them in the stream; some in the middle removed, which
/// are not known to be settled; and all others in hand.
async fn leave_as_a_crash_would(
    cluster: &mut Cluster,
    settings: queue::Settings,
) -> anyhow::Result<()> {
    let queue = Queue::connect(settings).await?;
    // Nobody looks after what is settled.
    let (holds, _) = queue.holds();
    let stream = Stream::open(cluster, &queue, &holds, Stage::Ready).await?;
    for _ in 0..JOBS {
        stream.publish_ready().await?;
    }
    let (stored, before) = (stream.store(cluster), cluster.file("before"));
    copy(&stored, &before)?;
    let jobs = stream.pull_as_they_are().await?;
    acknowledge(&jobs[..SETTLED]).await?;
    cluster.stack()?.nats_mut()[0].end_in_order().await?;
    std::fs::remove_dir_all(&stored)?;
    copy(&before, &stored)?;
    let delivered = stream.store(cluster).with_file_name("obs/workers/o.dat");
    let known = std::fs::read(&delivered)?;
    cluster.stack()?.nats_mut()[0].start_again().await?;
    acknowledge(&jobs[SETTLED_LAST]).await?;
    cluster.stack()?.nats_mut()[0].end_in_order().await?;
    std::fs::write(&delivered, known)?;
    cluster.stack()?.nats_mut()[0].start_again().await
}

async fn acknowledge(jobs: &[jetstream::Message]) -> anyhow::Result<()> {
    for job in jobs {
        let acknowledged = job.double_ack().await;
        acknowledged.map_err(|error| anyhow!("acknowledge: {error}"))?;
    }
    Ok(())
}

/// What is acknowledged together costs three servers no more than what is removed (ADR 24).
#[tokio::test]
async fn where_streams_have_copies_each_job_is_acknowledged() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).on_three_nodes().saying_anything();
    let cluster = setup.start_with(0).await?;
    let settings = queue::Settings {
        replicas: COPIES,
        ..broker::settings(cluster.nats_url()?)
    };
    let queue = Queue::connect(settings).await?;
    let (holds, keep) = queue.holds();
    let mut stream = Stream::open(&cluster, &queue, &holds, Stage::Ready).await?;
    tokio::select! {
        () = keep => bail!("settled jobs are no longer looked after"),
        passed = leave_one_by_one(&mut stream) => passed?,
    }
    cluster.finish().await
}

async fn leave_one_by_one(stream: &mut Stream) -> anyhow::Result<()> {
    for hold in stream.jobs().await? {
        hold.settle();
    }
    stream.left(0).await?;
    let told = stream.told().await?;
    ensure!(told == (0, JOBS), "{told:?} removals and acknowledgements");
    Ok(())
}

/// Jobs that are settled, all but one at first.
async fn leave_together(stream: &mut Stream) -> anyhow::Result<()> {
    let mut held = stream.jobs().await?;
    let busy = held.remove(BUSY);
    for hold in held {
        hold.settle();
    }
    stream.left(1).await?;
    let (removals, acknowledgements) = stream.told().await?;
    ensure!(removals >= 1, "nothing left together");
    let behind = JOBS - BUSY - 1;
    ensure!(
        (behind..JOBS - 1).contains(&acknowledgements),
        "{acknowledgements} were acknowledged"
    );
    ensure!(busy.is_proven());
    busy.settle();
    stream.left(0).await?;

    stream.told().await?;
    for hold in stream.jobs().await? {
        hold.settle();
    }
    stream.left(0).await?;
    let (removals, acknowledgements) = stream.told().await?;
    // The newest goes by itself.
    ensure!(
        removals >= 1 && acknowledgements == 1,
        "{removals} removals, {acknowledgements} acknowledgements"
    );
    Ok(())
}

/// Jobs are settled in any order, some later than others, and some stay in hand. Where nothing stands at the sequence up to
/// which a stream was once shortened, a nats-server removes more the next time than it is told to, if it is told wrongly.
async fn leave_in_any_order(stream: &Stream) -> anyhow::Result<()> {
    let seed = number("POSTRIDER_TEST_SEED").unwrap_or_else(|| rand::rng().random());
    println!("POSTRIDER_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut held: Vec<Hold> = Vec::new();
    for _ in 0..ROUNDS {
        held.extend(stream.jobs().await?);
        let run = random.random_range(0..=held.len());
        let stay = random.random_range(0..=held.len() - run);
        // Some in the order in which they came, and of the others some of the last.
        held.drain(..run).for_each(Hold::settle);
        held.drain(stay..).for_each(Hold::settle);
        stream.left(held.len()).await?;
        held.shuffle(&mut random);
    }
    held.drain(..).for_each(Hold::settle);
    stream.left(0).await
}

/// A job that is given back among others that are settled. A removal would make the broker forget that it is to be delivered
/// again.
async fn come_again(stream: &Stream) -> anyhow::Result<()> {
    let mut held = stream.jobs().await?;
    held.remove(BUSY).release().await;
    for hold in held {
        hold.settle();
    }
    stream.left(1).await?;
    let again = stream.pull().await?;
    ensure!(again.len() == 1, "what was given back does not come again");
    for hold in again {
        hold.settle();
    }
    stream.left(0).await
}

/// Copies the files of a directory.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    for file in from.read_dir()? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// One stream of jobs, and what the broker is told of it.
struct Stream {
    url: String,
    publisher: Publisher,
    lane: Lane,
    domain: Domain,
    stage: Stage,
    puller: Puller,
    jetstream: jetstream::Context,
    /// How many messages stand between the jobs.
    schedules: Cell<usize>,
    removals: Subscriber,
    acknowledgements: Subscriber,
}

impl Stream {
    async fn open(
        cluster: &Cluster,
        queue: &Queue,
        holds: &Holds,
        stage: Stage,
    ) -> anyhow::Result<Self> {
        let domain = "gmail.example".parse::<Domain>()?;
        let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
        let puller = queue.puller(&lane, CLASS, stage, holds).await?;
        let name = puller.stream();
        let client = async_nats::connect(cluster.nats_url()?).await?;
        let removals = client
            .subscribe(format!("$JS.API.STREAM.PURGE.{name}"))
            .await?;
        let acknowledgements = client.subscribe(format!("$JS.ACK.{name}.>")).await?;
        client.flush().await?;
        Ok(Self {
            url: cluster.nats_url()?.to_owned(),
            publisher: queue.publisher(),
            lane,
            domain,
            stage,
            puller,
            jetstream: jetstream::new(client),
            schedules: Cell::new(0),
            removals,
            acknowledgements,
        })
    }

    /// Where the only nats-server keeps the messages of the stream.
    fn store(&self, cluster: &Cluster) -> PathBuf {
        let streams =
            NatsServer::store_in(&cluster.file("nats"), 1, 0).join("jetstream/$G/streams");
        streams.join(self.puller.stream()).join("msgs")
    }

    /// Takes jobs as any client of the broker would, in the order of the stream.
    async fn pull_as_they_are(&self) -> anyhow::Result<Vec<jetstream::Message>> {
        let stream = self.puller.stream();
        let consumer: PullConsumer = self
            .jetstream
            .get_consumer_from_stream("workers", stream)
            .await?;
        let mut jobs = consumer.fetch().max_messages(JOBS).messages().await?;
        let mut pulled = Vec::new();
        while let Some(job) = jobs.next().await {
            pulled.push(job.map_err(|error| anyhow!("pull: {error}"))?);
        }
        ensure!(pulled.len() == JOBS, "{} jobs came", pulled.len());
        Ok(pulled)
    }

    /// So many jobs, which come in time.
    async fn come(&self, jobs: usize) -> anyhow::Result<Vec<Hold>> {
        let mut come = Vec::new();
        eventually(&format!("{jobs} jobs come"), PATIENCE, async || {
            come.extend(self.pull().await.unwrap_or_default());
            Ok((come.len() >= jobs).then_some(()))
        })
        .await?;
        ensure!(come.len() == jobs, "{} jobs came", come.len());
        Ok(come)
    }

    /// Publishes jobs and takes them, in the order of the stream.
    async fn jobs(&self) -> anyhow::Result<Vec<Hold>> {
        for number in 0..JOBS {
            match self.stage {
                Stage::Ready => self.publish_ready().await?,
                Stage::Deferred => self.publish_due(number).await?,
            }
        }
        let jobs = self.pull().await?;
        ensure!(jobs.len() == JOBS, "{} jobs came", jobs.len());
        Ok(jobs)
    }

    async fn publish_ready(&self) -> anyhow::Result<()> {
        let (job, payload) = (JobId::fresh(), Bytes::from_static(b"a job"));
        self.publisher
            .ready(&self.lane, CLASS, &self.domain, job, payload)
            .await?;
        Ok(())
    }

    /// A job that has come due, and in front of some of them one that has not.
    async fn publish_due(&self, number: usize) -> anyhow::Result<()> {
        let scope = format!("t.default.{}", self.lane.key());
        if number.is_multiple_of(SCHEDULE_EVERY) {
            self.publish(format!("ds.{scope}.{}", JobId::fresh()))
                .await?;
            self.schedules.update(|schedules| schedules + 1);
        }
        self.publish(format!("dr.{scope}")).await
    }

    async fn publish(&self, subject: String) -> anyhow::Result<()> {
        let stored = self.jetstream.publish(subject, "a job".into()).await?;
        stored.await?;
        Ok(())
    }

    /// What comes of one pull.
    async fn pull(&self) -> anyhow::Result<Vec<Hold>> {
        let taken: Vec<Taken> = self.puller.pull(JOBS).await?.try_collect().await?;
        let jobs = taken.into_iter().filter_map(|taken| match taken {
            Taken::Job(job) => Some(job.hold),
            Taken::Bundle(_) => None,
        });
        Ok(jobs.collect())
    }

    /// Waits until so many jobs stand in the stream, and no fewer, beside all that was never to be delivered.
    async fn left(&self, jobs: usize) -> anyhow::Result<()> {
        let jobs = (jobs + self.schedules.get()) as u64;
        eventually(&format!("{jobs} jobs are left"), PATIENCE, async || {
            let left = broker::occupied(&self.url)
                .await?
                .get(self.puller.stream())
                .copied()
                .unwrap_or_default();
            ensure!(
                left >= jobs,
                "{left} jobs are left, {jobs} were not settled"
            );
            Ok((left == jobs).then_some(()))
        })
        .await
    }

    /// How many removals and acknowledgements the broker was told of since the last call.
    async fn told(&mut self) -> anyhow::Result<(usize, usize)> {
        // What is answered over the same connection comes behind all that was told before.
        self.jetstream.query_account().await?;
        let mut removals = 0;
        while let Some(Some(_)) = self.removals.next().now_or_never() {
            removals += 1;
        }
        let mut acknowledgements = 0;
        while let Some(Some(told)) = self.acknowledgements.next().now_or_never() {
            acknowledgements += usize::from(&*told.payload == b"+ACK");
        }
        Ok((removals, acknowledgements))
    }
}
