//! A million messages wait for a provider that has stopped: the worker's memory stays bounded, waiting costs little, and
//! mail to other providers goes out at nine tenths of the rate that it has where nothing waits.
//!
//! `make backlog` is the million; `make check` has `SMALL`. `POSTRIDER_BACKLOG_PROVIDER` says how the provider has stopped:
//! "hang" takes connections and never greets, "refuse" takes none, "421" greets with that.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mailsim::config::{RawDownWindow, RawProvider};
use model::ByteSize;
use postrider::config::RawConfig;
use tests::meter::{self, median};
use tests::{Cluster, Setup, number, provider};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::{PROGRAM, broker, pace};

const SMALL: usize = 20_000;
/// From so many on a run is a measurement, and held to the promises to the letter. A short one is held to what it can show
/// on a machine that does other things.
const LONG: usize = 200_000;
const WORKER: &str = "worker-1";
const READY: [&str; 2] = ["T-", "B-"];
const DEFERRED: [&str; 2] = ["DT-", "DB-"];
/// A hundred domains of four providers.
const OTHERS: &str = "d{100}.p{4}.example";
/// The worker's memory, in MiB, whatever waits.
const MEMORY: f64 = 256.0;
/// CPU seconds a minute that may come and go: what everything takes with nothing to do, and some.
const LITTLE: f64 = 3.0;
const PATIENCE: Duration = Duration::from_secs(3600);

/// What a run does, by its size.
struct Plan {
    backlog: usize,
    /// Runs that measure the rate of others, in either cluster; and their messages.
    runs: usize,
    others: usize,
    /// How long the waiting is looked at, and how often.
    wait: Duration,
    look: Duration,
    /// The part of an empty queue's rate that others keep.
    rate_kept: f64,
}

impl Plan {
    fn of(backlog: usize) -> Self {
        let (small, is_long) = (Duration::from_secs(2), backlog >= LONG);
        Self {
            backlog,
            runs: if is_long { 9 } else { 3 },
            others: if is_long { 5000 } else { 200 },
            wait: if is_long { small * 150 } else { small * 4 },
            look: if is_long { small * 15 } else { small },
            rate_kept: if is_long { 0.9 } else { 0.3 },
        }
    }
}

#[tokio::test]
async fn a_backlog_costs_little() -> anyhow::Result<()> {
    let plan = Plan::of(number("POSTRIDER_BACKLOG_MESSAGES").unwrap_or(SMALL));
    let stopped: String = number("POSTRIDER_BACKLOG_PROVIDER").unwrap_or_else(|| "hang".into());
    let stopped = stopped_provider(&stopped)?;
    let setup = Setup::new(PROGRAM)
        .tenant("globex")
        .configured(|config| *config = world(stopped, plan.backlog))
        // The broker is busy forgetting what was parked.
        .allowing("holds not proven")
        .storing_at_most(ByteSize(room(plan.backlog) * 4));
    let (mut cluster, quiet) = setup.start_pair(1).await?;
    let mut watch = Watch::new(&cluster)?;
    for warm in [&cluster, &quiet] {
        rate(warm, &plan).await?;
    }

    let (passing, during) = watch.passing(&cluster, &plan).await?;
    let (early, late) = watch.waiting(&cluster, &plan).await?;
    let (behind, empty) = by_turns(&cluster, &quiet, &plan).await?;
    let peak = meter::peak_mib(watch.worker()?)?;

    println!("passed the window once: {passing:.1?}");
    println!("worker, at most: {peak:.0} MiB");
    println!(
        "others: {behind:.0} messages/s while the backlog waits, {empty:.0} beside it without: {:.0} %",
        behind / empty * 100.0
    );
    if let Some(during) = median(during) {
        println!("others, while it passes: {during:.0} messages/s");
    }
    println!("waiting: {early:.2} CPU s a minute at first, {late:.2} at last");
    ensure!(peak < MEMORY, "the worker took {peak:.0} MiB");
    ensure!(
        late <= early.max(LITTLE) * 1.25,
        "waiting costs more and more"
    );
    ensure!(
        behind >= empty * plan.rate_kept,
        "others have {:.0} % of an empty queue's rate",
        behind / empty * 100.0
    );
    cluster.take(WORKER)?.stop(PATIENCE).await?;
    cluster.finish().await?;
    quiet.finish().await
}

/// How `stopped.example` has stopped.
fn stopped_provider(how: &str) -> anyhow::Result<RawProvider> {
    let mut stopped = provider("stopped");
    match how {
        "hang" => stopped.manners = vec!["connect: hang".into()],
        "421" => stopped.manners = vec!["greeting: close 421 4.3.2 come back later".into()],
        "refuse" => {
            stopped.down = vec![RawDownWindow {
                from: "0s".into(),
                until: "1000h".into(),
            }];
        }
        other => bail!("POSTRIDER_BACKLOG_PROVIDER is {other:?}; use hang, refuse or 421"),
    }
    Ok(stopped)
}

/// The defaults, with room in one stream for the whole backlog: the others have as much, and never use it.
fn world(stopped: RawProvider, backlog: usize) -> RawConfig {
    let mut config = RawConfig::default();
    config.nats.ready_bytes = ByteSize(room(backlog)).to_string();
    config.delivery.ehlo_name = "mail.postrider.example".into();
    config.mailsim.providers = (0..4)
        .map(|number| provider(&format!("p{number}")))
        .collect();
    config.mailsim.providers.push(stopped);
    config
}

/// Octets for all ready streams together: 12 with the default lanes.
fn room(backlog: usize) -> u64 {
    (backlog as u64 * (11 << 10) * 12).max(8 << 30)
}

/// Messages a second to others.
async fn rate(cluster: &Cluster, plan: &Plan) -> anyhow::Result<f64> {
    let watch = Watch::new(cluster)?;
    let rate = pace::rate(cluster, 1, plan.others, OTHERS).await?;
    // What was sent is settled within a second.
    sleep(Duration::from_secs(1)).await;
    let used = watch.used()?.into_iter().map(|(name, used)| {
        let before = watch.last.1.get(&name).copied().unwrap_or_default();
        format!(
            "{name} {:.3}",
            (used - before) * 1000.0 / plan.others as f64
        )
    });
    let used: Vec<String> = used.collect();
    println!(
        "  {rate:.0} messages/s to others, CPU s per 1000: {}",
        used.join(" ")
    );
    Ok(rate)
}

/// The median of the rates of others in one cluster, and in one whose queue is empty. A machine changes from one minute to the
/// next: they take turns. (The CPU that waiting takes is missing to both.)
async fn by_turns(cluster: &Cluster, quiet: &Cluster, plan: &Plan) -> anyhow::Result<(f64, f64)> {
    let (mut behind, mut empty) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        behind.push(rate(cluster, plan).await?);
        empty.push(rate(quiet, plan).await?);
    }
    let medians = median(behind).zip(median(empty));
    medians.context("nothing was measured")
}

/// Looks at the processes again and again, and prints a line each time.
struct Watch {
    processes: Vec<(String, u32)>,
    began: Instant,
    last: (Instant, BTreeMap<String, f64>),
}

impl Watch {
    fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let processes = cluster.processes()?.into_iter();
        let processes = processes
            .map(|(name, pid)| (name.to_owned(), pid))
            .collect();
        let mut watch = Self {
            processes,
            began: Instant::now(),
            last: (Instant::now(), BTreeMap::new()),
        };
        watch.last.1 = watch.used()?;
        Ok(watch)
    }

    /// CPU seconds of each process.
    fn used(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let used = |(name, pid): &(String, u32)| {
            anyhow::Ok((name.clone(), meter::cpu(&[*pid])?.as_secs_f64()))
        };
        self.processes.iter().map(used).collect()
    }

    fn worker(&self) -> anyhow::Result<u32> {
        let worker = self.processes.iter().find(|(name, _)| name == WORKER);
        Ok(worker.context("no worker runs")?.1)
    }

    /// Accepts the backlog, and answers how long it took until each message had been in the worker's hands; and the rate
    /// of others, once all was accepted.
    async fn passing(
        &mut self,
        cluster: &Cluster,
        plan: &Plan,
    ) -> anyhow::Result<(Duration, Vec<f64>)> {
        (self.began, self.last) = (Instant::now(), (Instant::now(), self.used()?));
        let mut load = load(cluster, plan.backlog)?;
        let deadline = self.began + PATIENCE;
        let (mut accepted, mut during) = (None, Vec::new());
        loop {
            sleep(plan.look).await;
            ensure!(Instant::now() < deadline, "the backlog does not pass");
            self.line(cluster, "passing").await?;
            if let Some(status) = load.try_wait().context("look at the load")? {
                ensure!(status.success(), "not everything was accepted: {status}");
                accepted.get_or_insert_with(|| self.began.elapsed());
                if broker::undelivered(cluster.nats_url()?, &READY).await? == 0 {
                    break;
                }
                during.push(rate(cluster, plan).await?);
            }
        }
        println!("accepted: {:.1?}", accepted.unwrap_or_default());
        Ok((self.began.elapsed(), during))
    }

    /// Looks on while the backlog waits; CPU seconds a minute of worker, nats-server and redis-server in the first and in
    /// the last third of that time.
    async fn waiting(&mut self, cluster: &Cluster, plan: &Plan) -> anyhow::Result<(f64, f64)> {
        let until = Instant::now() + plan.wait;
        let mut used = Vec::new();
        while Instant::now() < until {
            sleep(plan.look).await;
            used.push(self.line(cluster, "waiting").await?);
        }
        let third = (used.len() / 3).max(1);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        Ok((mean(&used[..third]), mean(&used[used.len() - third..])))
    }

    /// Prints how things are; CPU seconds a minute of what waiting takes, since the last line.
    async fn line(&mut self, cluster: &Cluster, phase: &str) -> anyhow::Result<f64> {
        let (now, used) = (Instant::now(), self.used()?);
        let (then, before) = std::mem::replace(&mut self.last, (now, used.clone()));
        let minutes = (now - then).as_secs_f64() / 60.0;
        let spent = |name: &str| {
            let of = |used: &BTreeMap<String, f64>| used.get(name).copied().unwrap_or_default();
            (of(&used) - of(&before)) / minutes
        };
        let url = cluster.nats_url()?;
        let ready = broker::undelivered(url, &READY).await?;
        let due = broker::undelivered(url, &DEFERRED).await?;
        let waiting = broker::messages(url, &DEFERRED).await?;
        let [worker, nats, redis] = [WORKER, "nats-server", "redis-server"].map(spent);
        println!(
            "{:>5} s {phase}: ready {ready:>7} due {due:>6} waiting {waiting:>7}, worker {:>4.0} MiB, CPU s a minute: \
             worker {worker:>5.2} nats-server {nats:>5.2} redis-server {redis:>5.2} ingest {:>5.2}",
            (now - self.began).as_secs(),
            meter::resident_mib(self.worker()?)?,
            spent("ingest"),
        );
        Ok(worker + nats + redis)
    }
}

/// Submits the backlog in its own process.
fn load(cluster: &Cluster, messages: usize) -> anyhow::Result<Child> {
    let count = messages.to_string();
    let load = [
        "load",
        "--class",
        "bulk",
        "--messages",
        &count,
        "--to",
        "stopped.example",
    ];
    let mut command = cluster.verbs()?.command(&load);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("start the load")
}
