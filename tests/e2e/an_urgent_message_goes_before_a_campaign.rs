//! A provider takes little in a second, and a campaign waits at all of its connections: a transactional message of another
//! tenant has the next token, and not that behind what each connection was about to send.

use std::time::Duration;

use anyhow::ensure;
use tests::{Setup, bulk, eventually, letter, limited, provider, submit_all};

use super::{PROGRAM, pace};

/// Messages a second that the provider takes.
const RATE: u32 = 5;
/// More than are sent meanwhile, and fewer than are parked.
const CAMPAIGN: usize = 200;
const UNDER_WAY: usize = 10;
const URGENT: usize = 5;
const GAP: Duration = Duration::from_secs(1);
/// Twenty connections that all have their turn before take four seconds.
const AT_ONCE: f64 = 2500.0;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_urgent_message_goes_before_a_campaign() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        config.nats.lanes = 1;
        config.delivery.providers = vec![limited("limited", RATE)];
        config.mailsim.providers = vec![provider("limited")];
    });
    let mut cluster = setup.start_with(1).await?;
    let mut arrivals = cluster.arrivals()?;
    let letters = (0..CAMPAIGN).map(|number| bulk(&format!("customer{number}@limited.example")));
    submit_all(&cluster.api(0)?, letters, drop).await?;
    let mut under_way = 0;
    eventually("the campaign is under way", PATIENCE, async || {
        under_way += arrivals.more()?.len();
        Ok((under_way >= UNDER_WAY).then_some(()))
    })
    .await?;

    let urgent = (0..URGENT).map(|number| letter(&format!("urgent{number}@limited.example")));
    let took = pace::latencies(&cluster, 1, urgent.collect(), "urgent", GAP).await?;
    let worst = took.into_iter().fold(0.0, f64::max);
    println!("at most {worst:.0} ms");
    ensure!(worst < AT_ONCE, "{worst:.0} ms");
    cluster.take("worker-1")?.kill().await?;
    cluster.finish().await
}
