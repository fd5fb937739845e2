//! How fast mail goes out, and how soon: from the call to the mailbox.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::SubmitRequest;
use futures_util::future::try_join_all;
use mailsim::ledger::{Entry, Outcome};
use model::{Clock as _, SystemClock, Timestamp};
use tests::meter::quantile;
use tests::{Arrivals, Cluster, eventually};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(120);
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

/// The p99 of the messages of tenant number `tenant` to `free.example`, `FEW` in each of `runs`, each as `message` makes it, in
/// milliseconds.
pub(crate) async fn p99_to_free(
    cluster: &Cluster,
    tenant: usize,
    name: &str,
    runs: usize,
    message: impl Fn(&str) -> SubmitRequest,
) -> anyhow::Result<Vec<f64>> {
    let mut p99 = Vec::new();
    for run in 0..runs {
        let name = format!("{name}{run}-");
        let requests = (0..FEW).map(|number| message(&format!("{name}{number}@free.example")));
        let mut took = latencies(cluster, tenant, requests.collect(), &name, GAP).await?;
        println!(
            "  {name} p50 {:.1} ms, p99 {:.1} ms",
            quantile(&mut took, 0.5),
            quantile(&mut took, 0.99)
        );
        p99.push(quantile(&mut took, 0.99));
    }
    Ok(p99)
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
