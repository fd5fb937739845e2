//! A provider has several sets of exchangers and one limit, and a campaign to a domain behind one of them uses all of it: a
//! transactional message to a domain behind another has the next token, and the next connection, also where another worker
//! sends it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use delivery::config::RawLimits;
use model::{Domain, EgressGroup, JobId};
use queue::LaneMap;
use tests::{Cluster, Setup, bulk, eventually, letter, limited, provider, submit_all};

use super::{PROGRAM, pace};

const LANES: u32 = 2;
/// Messages a second that the provider takes, where it counts them.
const RATE: u32 = 5;
/// Connections that it takes then: some more than the campaign opens, and so many that wait for a token that the last one's turn
/// is nine seconds away.
const MANY_CONNECTIONS: u32 = 50;
const CAMPAIGN: usize = 100;
/// Connections that it takes where it counts only those.
const FEW_CONNECTIONS: u32 = 2;
/// How long it takes for a reply then, so that the campaign lasts for half a minute.
const LATENCY: &str = "100ms";
const UNDER_WAY: usize = 5;
const URGENT: usize = 5;
const GAP: Duration = Duration::from_secs(1);
/// What a transactional message may take: the message that is in hand, a connection and a token, on a busy machine.
const AT_ONCE: f64 = 2500.0;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_urgent_message_has_the_next_token_of_its_provider() -> anyhow::Result<()> {
    goes_first(1, counting_messages(), "0ms").await
}

#[tokio::test]
async fn an_urgent_message_has_the_next_token_of_its_provider_among_workers() -> anyhow::Result<()>
{
    goes_first(2, counting_messages(), "0ms").await
}

#[tokio::test]
async fn an_urgent_message_has_the_next_connection_of_its_provider() -> anyhow::Result<()> {
    let counting_connections = RawLimits {
        connections: FEW_CONNECTIONS,
        ..RawLimits::default()
    };
    goes_first(1, counting_connections, LATENCY).await
}

fn counting_messages() -> RawLimits {
    RawLimits {
        connections: MANY_CONNECTIONS,
        ..limited("hosted", RATE).limits
    }
}

/// A campaign to a domain of one lane, and transactional messages to one of the other, which another worker has where there
/// are two.
async fn goes_first(workers: usize, limits: RawLimits, latency: &str) -> anyhow::Result<()> {
    let (north, south) = (domain_in(0)?, domain_in(1)?);
    let world = [&north, &south].map(|domain| mailsim::config::RawProvider {
        domains: vec![domain.to_string()],
        latency: latency.into(),
        ..provider(domain.as_str())
    });
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        config.nats.lanes = LANES;
        config.delivery.providers = vec![delivery::config::RawProvider {
            limits,
            ..limited("hosted", RATE)
        }];
        config.mailsim.providers = world.into();
    });
    let cluster = setup.start_with(workers).await?;
    let letters = (0..CAMPAIGN).map(|number| bulk(&format!("customer{number}@{north}")));
    submit_all(&cluster.api(0)?, letters, drop).await?;
    under_way(&cluster).await?;

    let urgent = (0..URGENT).map(|number| letter(&format!("urgent{number}@{south}")));
    let took = pace::latencies(&cluster, 1, urgent.collect(), "urgent", GAP).await?;
    let worst = took.into_iter().fold(0.0, f64::max);
    println!("at most {worst:.0} ms");
    ensure!(worst < AT_ONCE, "{worst:.0} ms");
    let campaign = cluster.ledger()?.len() - URGENT;
    ensure!(campaign < CAMPAIGN, "the campaign was over before");
    end(cluster, workers).await
}

/// A domain behind an exchanger of its own at the provider, in that hashed lane.
fn domain_in(lane: u32) -> anyhow::Result<Domain> {
    let lanes = LaneMap::new(&EgressGroup::default(), LANES, &[]);
    let name = format!("h{lane}");
    for number in 0..100 {
        let domain: Domain = format!("d{number}.hosted.example").parse()?;
        if lanes.lane(&domain, JobId::fresh()).key().ends_with(&name) {
            return Ok(domain);
        }
    }
    Err(anyhow::anyhow!("no domain falls into lane {name}"))
}

async fn under_way(cluster: &Cluster) -> anyhow::Result<()> {
    eventually("the campaign is under way", PATIENCE, async || {
        Ok((cluster.ledger()?.len() >= UNDER_WAY).then_some(()))
    })
    .await
    .context("wait for the campaign")
}

/// Without waiting for the rest of the campaign.
async fn end(mut cluster: Cluster, workers: usize) -> anyhow::Result<()> {
    for number in 1..=workers {
        cluster.kill(&format!("worker-{number}")).await?;
    }
    cluster.finish().await
}
