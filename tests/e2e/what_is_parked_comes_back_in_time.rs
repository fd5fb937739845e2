//! A provider takes less in a second than is queued for it, and most of that is parked: it comes back as fast as the provider
//! takes it, and all is sent in little more than the time which that takes.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::{Setup, bulk, eventually, limited, provider, submit_all};

use super::PROGRAM;

/// Messages a second that the provider takes.
const RATE: u32 = 50;
/// More than are kept in hand.
const MESSAGES: usize = 2000;
/// What it may take, as a multiple of what it takes at the provider's rate.
const AT_MOST: f64 = 1.3;
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test]
async fn what_is_parked_comes_back_in_time() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.lanes = 1;
        config.delivery.providers = vec![limited("limited", RATE)];
        config.mailsim.providers = vec![provider("limited")];
    });
    let cluster = setup.start_with(1).await?;
    let mut arrivals = cluster.arrivals()?;
    let letters = (0..MESSAGES).map(|number| bulk(&format!("customer{number}@limited.example")));
    submit_all(&cluster.api(0)?, letters, drop).await?;
    let mut times = Vec::new();
    eventually("all arrive", PATIENCE, async || {
        times.extend(arrivals.more()?.into_iter().map(|entry| entry.time));
        Ok((times.len() >= MESSAGES).then_some(()))
    })
    .await?;
    cluster
        .logged("worker-1", "site is slow, jobs parked")
        .await?;
    let (first, last) = (times.iter().min(), times.iter().max());
    let first = first.context("nothing arrived")?;
    let took = last.unwrap_or(first).duration_since(*first).as_secs_f64();
    let ideal = MESSAGES as f64 / f64::from(RATE);
    println!("{MESSAGES} took {took:.1} s, at {RATE} a second {ideal:.1} s");
    ensure!(took < ideal * AT_MOST, "{took:.1} s against {ideal:.1}");
    cluster.finish().await
}
