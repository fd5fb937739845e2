//! How fast mail goes out, and how soon: from the call to the mailbox.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::{Class, SubmitRequest};
use futures_util::future::try_join_all;
use mailsim::ledger::{Entry, Outcome};
use model::{Clock as _, SystemClock, Timestamp};
use tests::meter::{median, quantile};
use tests::{Arrivals, Cluster, Setup, eventually, number, raw};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(120);
const SOME_NOISE: f64 = 1000.0;
const FEW_RUNS: usize = 3;
const MANY_RUNS: usize = 9;
/// Messages whose way is timed together.
const FEW: usize = 100;
/// Between two of them.
const GAP: Duration = Duration::from_millis(10);

/// Messages a second of tenant number `tenant` that come to `to`, submitted as fast as they are accepted: from the first
/// call to the last arrival.
pub(crate) async fn rate(
    cluster: &Cluster,
    tenant: usize,
    messages: usize,
    to: &str,
) -> anyhow::Result<f64> {
    let (mut arrivals, began) = (cluster.arrivals()?, SystemClock.now());
    let count = messages.to_string();
    let load = ["load", "--messages", &count, "--to", to];
    let verbs = cluster.verbs_of(tenant)?;
    let (loaded, arrived) = tokio::join!(verbs.run(&load), taken(&mut arrivals, messages, "load"));
    let loaded = loaded?;
    ensure!(loaded.code == Some(0), "{}{}", loaded.out, loaded.err);
    let last = arrived?.into_iter().map(|entry| entry.time).max();
    let last = last.context("nothing arrived")?;
    Ok(messages as f64 / last.duration_since(began).as_secs_f64())
}

/// Submits `requests` of tenant number `tenant`, one each `gap`, and answers how long each took to its mailbox, in
/// milliseconds. Their recipients begin with `name`, and no others do.
pub(crate) async fn latencies(
    cluster: &Cluster,
    tenant: usize,
    requests: Vec<SubmitRequest>,
    name: &str,
    gap: Duration,
) -> anyhow::Result<Vec<f64>> {
    let (api, mut arrivals) = (cluster.api(tenant)?, cluster.arrivals()?);
    let (began, count) = (Instant::now(), requests.len());
    let calls = (0..).zip(requests).map(|(number, request)| {
        let api = &api;
        async move {
            tokio::time::sleep_until(began + gap * number).await;
            let (recipient, called) = (request.recipients[0].clone(), SystemClock.now());
            api.submit(request).await.context("submit")?;
            anyhow::Ok((recipient, called))
        }
    });
    let called: HashMap<String, Timestamp> = try_join_all(calls).await?.into_iter().collect();
    let arrived = taken(&mut arrivals, count, name).await?;
    let took = arrived.into_iter().filter_map(|entry| {
        let took = entry.time.duration_since(*called.get(&entry.recipient)?);
        Some(took.as_secs_f64() * 1000.0)
    });
    Ok(took.collect())
}

/// Two clusters of the same kind. In one somebody makes trouble; the other is quiet, and shows what the machine does.
pub(crate) struct Pair {
    pub(crate) troubled: Cluster,
    pub(crate) quiet: Cluster,
    /// How often messages are timed in either, by turns.
    runs: usize,
    /// What may be added to any message, in milliseconds.
    noise: f64,
}

/// The p99 of some messages, in milliseconds, by run.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    pub(crate) troubled: Vec<f64>,
    quiet: Vec<f64>,
}

impl Waits {
    /// With those of `others`.
    pub(crate) fn extend(&mut self, others: Self) {
        self.troubled.extend(others.troubled);
        self.quiet.extend(others.quiet);
    }
}

impl Pair {
    /// Two clusters with one worker each, and two tenants: the second is to hear nothing of what the first does.
    ///
    /// On a machine that does other things what is looked for is seconds; `POSTRIDER_TEST_NOISE=0` holds a
    /// run to the promise.
    pub(crate) async fn start(setup: Setup) -> anyhow::Result<Self> {
        let noise = number("POSTRIDER_TEST_NOISE").unwrap_or(SOME_NOISE);
        let (troubled, quiet) = setup.start_pair(1).await?;
        let mut pair = Self {
            troubled,
            quiet,
            runs: 1,
            noise,
        };
        pair.time("warm").await?;
        pair.runs = if noise > 0.0 { FEW_RUNS } else { MANY_RUNS };
        Ok(pair)
    }

    /// The p99 of messages of the second tenant to `free.example`, in either cluster by turns; their recipients begin with
    /// `name`, and no others do.
    pub(crate) async fn time(&self, name: &str) -> anyhow::Result<Waits> {
        let mut waits = Waits::default();
        for run in 0..self.runs {
            let name = format!("{name}{run}-");
            let quiet = p99_to_free(&self.quiet, &name).await?;
            let troubled = p99_to_free(&self.troubled, &name).await?;
            println!("  {name} p99 {troubled:.1} ms, {quiet:.1} without trouble");
            waits.troubled.push(troubled);
            waits.quiet.push(quiet);
        }
        Ok(waits)
    }

    /// Stops both; what is in the hands of the worker that has trouble stays undone.
    pub(crate) async fn finish(mut self) -> anyhow::Result<()> {
        self.troubled.take("worker-1")?.kill().await?;
        self.troubled.finish().await?;
        self.quiet.finish().await
    }

    /// Fails where trouble makes others wait for more than half as long again.
    pub(crate) fn ensure_undelayed(&self, when: &str, waits: Waits) -> anyhow::Result<()> {
        let [troubled, quiet] = [waits.troubled, waits.quiet].map(median);
        let (troubled, quiet) = troubled.zip(quiet).context("nothing was measured")?;
        println!("p99 {when}: {troubled:.1} ms, {quiet:.1} without trouble");
        ensure!(
            troubled <= quiet * 1.5 + self.noise,
            "{when} the p99 is {troubled:.1} ms, {quiet:.1} without trouble"
        );
        Ok(())
    }
}

/// The p99 of `FEW` messages of the second tenant to `free.example`, in milliseconds.
async fn p99_to_free(cluster: &Cluster, name: &str) -> anyhow::Result<f64> {
    let requests = (0..FEW).map(|number| news(&format!("{name}{number}@free.example")));
    let mut took = latencies(cluster, 1, requests.collect(), name, GAP).await?;
    Ok(quantile(&mut took, 0.99))
}

/// 10 KB that nobody waits for.
pub(crate) fn news(to: &str) -> SubmitRequest {
    let mut content = b"From: news@globex.example\r\nSubject: news\r\n\r\n".to_vec();
    content.extend(b"A line of a message that nobody waits for.\r\n".repeat(230));
    SubmitRequest {
        class: Class::Bulk.into(),
        ..raw(to, content)
    }
}

/// The next `count` messages taken for recipients whose names begin with `name`.
async fn taken(arrivals: &mut Arrivals, count: usize, name: &str) -> anyhow::Result<Vec<Entry>> {
    let mut taken = Vec::new();
    let what = format!("{count} messages arrive for {name}…");
    eventually(&what, PATIENCE, async || {
        let more = arrivals.more()?.into_iter();
        taken.extend(more.filter(|entry| {
            entry.outcome == Outcome::Accepted && entry.recipient.starts_with(name)
        }));
        Ok((taken.len() >= count).then_some(()))
    })
    .await?;
    Ok(taken)
}
