//! Accepted means synced: the power is cut under the nats-servers while messages are accepted, sent and deferred, some with
//! bodies that are kept apart from their jobs; again and again, on a machine that has much else to do, and nothing that was accepted
//! is lost.
//!
//! Needs root, for a disk that can lose its power: `make powercut`. A control run, in which the servers sync when they
//! like, must lose something; otherwise the disks did not lose their power and the test shows nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod busy;
mod remains;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mailsim::config::{RawDownWindow, RawProvider};
use rand::RngExt as _;
use tests::{Cluster, Disk, Order, Setup, eventually, letter_of, messages, provider};
use tokio::time::Instant;
use tonic::Code;

use self::busy::Busy;

/// Built by cargo before these tests run.
const PROGRAM: &str = env!("CARGO_BIN_EXE_postrider-under-test");
/// Messages accepted at least, before the last cut.
const MESSAGES: usize = 20_000;
const CUTS: u32 = 3;
/// More than are ever submitted between two cuts.
const NUMBERS: u32 = 1_000_000;
/// Octets of each disk: room for some tens of thousands of messages.
const SIZE: u64 = 2 << 30;
const IN_FLIGHT: usize = 64;
const WORKERS: usize = 2;
/// What the workers may send in a second, all together: less than is accepted, so that much is still to be sent when the
/// power is cut.
const RATE: &str = "500/s";
/// One message in so many has a body that is too large to stand in its job.
const LARGE_EVERY: u32 = 200;
const LARGE: usize = 300 << 10;
const SMALL: usize = 2600;
/// More than waits within a job that is deferred.
const SET_ASIDE: usize = 6 << 10;
/// What the addresses begin with to which the large ones go.
const LARGE_TO: &str = "large";
/// One message in so many goes to a provider that is down for a while, and waits with others in one schedule (ADR 19).
const DEFERRED_EVERY: u32 = 3;
const CLOSED: &str = "closed";
/// How long it is down for each cut, from its start: longer than it takes to accept what is accepted until then, start and
/// elections included, also on a slow machine.
const CLOSED_FOR: Duration = Duration::from_secs(90);
/// When the power is cut: so many times a cut's part of the messages are accepted since the last one, at random.
const CUT_AFTER: std::ops::Range<f64> = 1.0..1.2;
const PATIENCE: Duration = Duration::from_secs(600);
/// After so long without a change the receivers have all they will ever have.
const QUIET: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Always,
    WhenItLikes,
}

impl Sync {
    /// How often the power is cut.
    fn cuts(self) -> u32 {
        match self {
            Self::Always => CUTS,
            // What is lost at once need not be lost again.
            Self::WhenItLikes => 1,
        }
    }

    /// How long [`CLOSED`] is down.
    fn closed_for(self) -> Duration {
        CLOSED_FOR * self.cuts()
    }
}

#[tokio::test]
#[ignore = "needs root: make powercut"]
async fn one_node() -> anyhow::Result<()> {
    compare(1).await
}

#[tokio::test]
#[ignore = "needs root: make powercut"]
async fn three_nodes_at_once() -> anyhow::Result<()> {
    compare(3).await
}

/// The control run, and the run that must lose nothing.
async fn compare(nodes: usize) -> anyhow::Result<()> {
    ensure!(Disk::is_possible(), "mounting disks needs root");
    let control = lost(nodes, Sync::WhenItLikes)
        .await
        .context("control run")?;
    ensure!(
        control > 0,
        "the test is void: servers that sync when they like lost nothing"
    );
    lost(nodes, Sync::Always).await.map(drop)
}

/// How many accepted messages never arrive when the power is cut while they are accepted.
async fn lost(nodes: usize, sync: Sync) -> anyhow::Result<usize> {
    // What copies need (ADR 28); one server comes back from any disk.
    let order = if nodes > 1 { Order::Kept } else { Order::Any };
    let disks: Vec<Disk> = (0..nodes)
        .map(|_| Disk::new(SIZE, order))
        .collect::<Result<_, _>>()?;
    let mut cluster = start(nodes, sync, &disks).await?;
    let opens = Instant::now() + sync.closed_for();
    // The streams are there; what may be lost is mail.
    for disk in &disks {
        disk.sync()?;
    }
    let mut accepted = HashSet::new();
    let busy = (sync == Sync::Always).then(Busy::begin);
    for cut in 0..sync.cuts() {
        accept_until_cut(&mut cluster, &disks, cut, &mut accepted).await?;
        give_power_back(&mut cluster, &disks).await?;
    }
    drop(busy);
    let before = cluster.ledger()?.len();
    let arrived = arrived(&cluster, &accepted, opens).await?;
    let lost: Vec<&String> = accepted.difference(&arrived).collect();
    let large = |recipients: &mut dyn Iterator<Item = &String>| {
        recipients.filter(|to| to.starts_with(LARGE_TO)).count()
    };
    println!(
        "{nodes} nodes, sync {}, power cut {} times: accepted {}, {} of them large; sent before {before}; lost {}, {} of them large",
        match sync {
            Sync::Always => "always",
            Sync::WhenItLikes => "when they like",
        },
        sync.cuts(),
        accepted.len(),
        large(&mut accepted.iter()),
        lost.len(),
        large(&mut lost.iter().copied()),
    );
    if sync == Sync::Always && !lost.is_empty() {
        println!("lost: {lost:?}");
        if let Err(error) = remains::print(cluster.nats_url()?, &lost).await {
            println!("what is left of it is not known: {error:#}");
        }
    }
    let lost = lost.len();
    // A cluster that is not finished shows its logs and keeps them.
    ensure!(
        sync == Sync::WhenItLikes || lost == 0,
        "accepted and lost: {lost}"
    );
    cluster.finish().await?;
    Ok(lost)
}

async fn start(nodes: usize, sync: Sync, disks: &[Disk]) -> anyhow::Result<Cluster> {
    let mut setup = Setup::new(PROGRAM)
        .saying_anything()
        .storing_in(disks.iter().map(Disk::store).collect())
        .configured(|config| {
            config.nats.ready_bytes = "600MiB".into();
            config.nats.event_bytes = "64MiB".into();
            config.delivery.limits.rate = RATE.into();
            config.mailsim.providers.push(RawProvider {
                down: vec![RawDownWindow {
                    from: "0s".into(),
                    until: format!("{}s", sync.closed_for().as_secs()),
                }],
                ..provider(CLOSED)
            });
            // Nothing is parked, to come back minutes later.
            config.delivery.window = 50_000;
        });
    if nodes > 1 {
        setup = setup.on_three_nodes();
    }
    if sync == Sync::WhenItLikes {
        setup = setup
            .syncing_lazily()
            .configured(|config| config.nats.sync = "allow-lazy".into());
    }
    setup.start_with(WORKERS).await
}

/// Submits until the power is cut for the `cut`th time, and adds to whom messages were accepted.
async fn accept_until_cut(
    cluster: &mut Cluster,
    disks: &[Disk],
    cut: u32,
    accepted: &mut HashSet<String>,
) -> anyhow::Result<()> {
    let part = messages(MESSAGES) as f64 / f64::from(CUTS);
    let known = accepted.len();
    let mut cut_at = known + (part * rand::rng().random_range(CUT_AFTER)) as usize;
    let api = cluster.api(0)?;
    let submit = |number: u32| {
        let (api, (to, size)) = (api.clone(), mail(number));
        async move { api.submit(letter_of(size, &to)).await.map(|_| to) }
    };
    let numbers = cut * NUMBERS..(cut + 1) * NUMBERS;
    eventually("messages are accepted", PATIENCE, async || {
        Ok(submit(numbers.start).await.ok())
    })
    .await?;
    let mut answers = stream::iter(numbers.skip(1).map(submit)).buffer_unordered(IN_FLIGHT);
    let mut is_cut = false;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(to) => drop(accepted.insert(to)),
            Err(_) if is_cut => break,
            // Leaders are still being elected since the last cut: nobody knows of this one.
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => bail!("refused before the power was cut: {status}"),
        }
        if accepted.len() >= cut_at && !is_cut {
            let (bundles, bodies) = set_aside(cluster.nats_url()?).await?;
            if bundles == 0 || bodies == 0 {
                // What is deferred is at stake as well.
                cut_at += IN_FLIGHT;
                continue;
            }
            println!(
                "{} are accepted, {bundles} bundles of deferred jobs and {bodies} of their bodies are stored",
                accepted.len() - known
            );
            is_cut = true;
            cut_power(cluster, disks).await?;
        }
    }
    ensure!(is_cut, "the power was never cut");
    Ok(())
}

/// All at once, as nearly as can be; the calls in flight go on meanwhile.
async fn cut_power(cluster: &mut Cluster, disks: &[Disk]) -> anyhow::Result<()> {
    for disk in disks {
        disk.cut()?;
    }
    for server in cluster.stack()?.nats_mut() {
        server.end().await?;
    }
    Ok(())
}

async fn give_power_back(cluster: &mut Cluster, disks: &[Disk]) -> anyhow::Result<()> {
    for disk in disks {
        disk.restore()?;
    }
    for server in cluster.stack()?.nats_mut() {
        server.start_again().await?;
    }
    Ok(())
}

/// To whom message `number` goes, and its size.
fn mail(number: u32) -> (String, usize) {
    if number.is_multiple_of(LARGE_EVERY) {
        (format!("{LARGE_TO}{number}@gmail.example"), LARGE)
    } else if !number.is_multiple_of(DEFERRED_EVERY) {
        (format!("customer{number}@gmail.example"), SMALL)
    } else if number.is_multiple_of(2) {
        (format!("customer{number}@{CLOSED}.example"), SET_ASIDE)
    } else {
        (format!("customer{number}@{CLOSED}.example"), SMALL)
    }
}

/// How many bundles of deferred jobs the queue holds, and how many of their bodies.
async fn set_aside(url: &str) -> anyhow::Result<(usize, u64)> {
    let (context, names) = streams(url).await?;
    let (mut bundles, mut bodies) = (0, 0);
    for name in names {
        let stream = context.get_stream(&name).await.context("find a stream")?;
        if name == "BODIES" {
            bodies = stream.cached_info().state.messages;
        } else if name.starts_with('D') {
            let waiting = stream.info_with_subjects("ds.*.*.*.bundle.*").await;
            let subjects = waiting.context("ask for the bundles")?.count().await;
            bundles += subjects;
        }
    }
    Ok((bundles, bodies))
}

/// The names of all streams, and how they are reached.
async fn streams(url: &str) -> anyhow::Result<(jetstream::Context, Vec<String>)> {
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    let context = jetstream::new(client);
    let names = context.stream_names().try_collect().await;
    let names = names.context("list the streams")?;
    Ok((context, names))
}

/// To whom mail came, once nothing more comes although the last provider `opens`.
async fn arrived(
    cluster: &Cluster,
    accepted: &HashSet<String>,
    opens: Instant,
) -> anyhow::Result<HashSet<String>> {
    let (mut known, mut since) = (0, opens);
    eventually("mail has arrived", PATIENCE, async || {
        let arrived: HashSet<String> = cluster
            .ledger()?
            .into_iter()
            .map(|entry| entry.recipient)
            .collect();
        if arrived.len() != known {
            (known, since) = (arrived.len(), opens.max(Instant::now()));
        }
        let all = accepted.is_subset(&arrived);
        Ok((all || since.elapsed() > QUIET).then_some(arrived))
    })
    .await
}
