//! One tenant queues a campaign to a provider that takes little in a second: another tenant's messages to others in the
//! same lane come as soon as if nothing was queued, and those to the same provider come when it is their turn.
//!
//! `POSTRIDER_CAMPAIGN_MESSAGES` is the size of the campaign: a million in `make backlog`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::{Class, SubmitRequest};
use model::ByteSize;
use tests::meter::median;
use tests::{Cluster, PATIENCE, Setup, eventually, limited, number, provider, raw};
use tokio::time::Instant;

use super::{PROGRAM, broker, pace};

const SMALL: usize = 20_000;
/// From so many on a run is a measurement, and held to the letter.
const LONG: usize = 200_000;
/// Messages a second that the provider takes.
const RATE: u32 = 50;
const FEW: usize = 100;
const WORKER: &str = "worker-1";
const JOBS: [&str; 4] = ["T-", "B-", "DT-", "DB-"];
/// Until a site is known to be slow, and what stands in front of the few in the lane has passed by.
const NOTICE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_campaign_delays_no_other_tenant() -> anyhow::Result<()> {
    let campaign = number("POSTRIDER_CAMPAIGN_MESSAGES").unwrap_or(SMALL);
    let is_long = campaign >= LONG;
    let runs = if is_long { 7 } else { 3 };
    let setup = Setup::new(PROGRAM)
        .tenant("globex")
        .configured(|config| {
            config.nats.lanes = 1;
            config.nats.ack_wait = "30s".into();
            config.nats.ready_bytes = ByteSize(room(campaign)).to_string();
            config.delivery.providers = vec![limited("limited", RATE)];
            config.mailsim.providers = vec![provider("limited"), provider("free")];
        })
        .storing_at_most(ByteSize(room(campaign) * 4));
    let mut cluster = setup.start_with(1).await?;
    to_others(&cluster, "warm", 1).await?;
    let mut empty = to_others(&cluster, "before", runs).await?;

    queue(&cluster, campaign).await?;
    let passing = to_others(&cluster, "passing", runs).await?;
    let turn = to_the_same(&cluster).await?;
    eventually("the campaign has passed", PATIENCE * 60, async || {
        let left = broker::undelivered(cluster.nats_url()?, &["T-", "B-"]).await?;
        Ok((left == 0).then_some(()))
    })
    .await?;
    let waiting = to_others(&cluster, "waiting", runs).await?;

    cluster.take(WORKER)?.stop(PATIENCE).await?;
    broker::purge(cluster.nats_url()?, &JOBS).await?;
    cluster.stack()?.start_worker("worker-2")?;
    cluster.logged("worker-2", "lanes leased").await?;
    to_others(&cluster, "again", 1).await?;
    empty.extend(to_others(&cluster, "after", runs).await?);

    let [empty, passing, waiting] = [empty, passing, waiting].map(median);
    let empty = empty.context("nothing was measured")?;
    // What a machine that does other things adds to any message: a short run looks for seconds.
    let noise = if is_long { 0.0 } else { 1000.0 };
    for (when, p99) in [("passes", passing), ("waits", waiting)] {
        let p99 = p99.context("nothing was measured")?;
        println!("p99 while the campaign {when}: {p99:.1} ms, {empty:.1} on an empty queue");
        ensure!(p99 <= empty * 1.5 + noise, "{p99:.1} ms against {empty:.1}");
    }
    let fair = Duration::from_secs_f64(FEW as f64 / (f64::from(RATE) / 2.0));
    println!("{FEW} to the same provider took {turn:.1?}, their share is {fair:.1?}");
    ensure!(turn <= fair + NOTICE, "{turn:?}");
    cluster.finish().await
}

/// Octets for the four ready streams together.
fn room(campaign: usize) -> u64 {
    (campaign as u64 * (11 << 10) * 4).max(8 << 30)
}

/// Queues the first tenant's campaign.
async fn queue(cluster: &Cluster, campaign: usize) -> anyhow::Result<()> {
    let count = campaign.to_string();
    let load = [
        "load",
        "--class",
        "bulk",
        "--messages",
        &count,
        "--to",
        "limited.example",
    ];
    let queued = cluster.verbs()?.run(&load).await?;
    ensure!(queued.code == Some(0), "{}{}", queued.out, queued.err);
    Ok(())
}

async fn to_others(cluster: &Cluster, name: &str, runs: usize) -> anyhow::Result<Vec<f64>> {
    pace::p99_to_free(cluster, 1, name, runs, news).await
}

/// How long the second tenant's messages to the campaign's provider take, from the first call to the last arrival.
async fn to_the_same(cluster: &Cluster) -> anyhow::Result<Duration> {
    let requests = (0..FEW).map(|number| news(&format!("friend{number}@limited.example")));
    let began = Instant::now();
    pace::latencies(cluster, 1, requests.collect(), "friend", Duration::ZERO).await?;
    Ok(began.elapsed())
}

/// 10 KB that nobody waits for.
fn news(to: &str) -> SubmitRequest {
    let mut content = b"From: news@globex.example\r\nSubject: news\r\n\r\n".to_vec();
    content.extend(b"A line of a message that nobody waits for.\r\n".repeat(230));
    SubmitRequest {
        class: Class::Bulk.into(),
        ..raw(to, content)
    }
}
