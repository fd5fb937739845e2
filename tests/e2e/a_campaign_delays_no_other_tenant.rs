//! One tenant queues a campaign to a provider that takes little in a second: another tenant's messages to others in the
//! same lane come as soon as if nothing was queued, and those to the same provider come when it is their turn.
//!
//! `POSTRIDER_CAMPAIGN_MESSAGES` is the size of the campaign: a million in `make backlog`.

use std::time::Duration;

use anyhow::ensure;
use model::ByteSize;
use tests::{Cluster, PATIENCE, Setup, eventually, limited, number, provider};
use tokio::time::Instant;

use super::pace::{self, Pair};
use super::{PROGRAM, broker};

const SMALL: usize = 20_000;
/// Messages a second that the provider takes.
const RATE: u32 = 50;
const FEW: usize = 100;
/// Until a site is known to be slow, and what stands in front of the few in the lane has passed by.
const NOTICE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_campaign_delays_no_other_tenant() -> anyhow::Result<()> {
    let campaign = number("POSTRIDER_CAMPAIGN_MESSAGES").unwrap_or(SMALL);
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
    let pair = Pair::start(setup).await?;
    let cluster = &pair.troubled;

    queue(cluster, campaign).await?;
    let passing = pair.time("passing").await?;
    println!("{} are still to pass", to_pass(cluster).await?);
    let turn = to_the_same(cluster).await?;
    eventually("the campaign has passed", PATIENCE * 60, async || {
        Ok((to_pass(cluster).await? == 0).then_some(()))
    })
    .await?;
    let waiting = pair.time("waiting").await?;

    let fair = Duration::from_secs_f64(FEW as f64 / (f64::from(RATE) / 2.0));
    println!("{FEW} to the same provider took {turn:.1?}, their share is {fair:.1?}");
    ensure!(turn <= fair + NOTICE, "{turn:?}");
    pair.ensure_undelayed("while a campaign waits", waiting)?;
    pair.ensure_undelayed("while a campaign passes", passing)?;
    pair.finish().await
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

/// How many have not been in a worker's hands.
async fn to_pass(cluster: &Cluster) -> anyhow::Result<u64> {
    broker::undelivered(cluster.nats_url()?, &["T-", "B-"]).await
}

/// How long the second tenant's messages to the campaign's provider take, from the first call to the last arrival.
async fn to_the_same(cluster: &Cluster) -> anyhow::Result<Duration> {
    let requests = (0..FEW).map(|number| pace::news(&format!("friend{number}@limited.example")));
    let began = Instant::now();
    pace::latencies(cluster, 1, requests.collect(), "friend", Duration::ZERO).await?;
    Ok(began.elapsed())
}
