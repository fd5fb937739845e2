//! A campaign passes through the window of a provider that takes little of it: what is parked leaves the stream together, and is
//! not acknowledged job by job, which would cost the broker a sync each (ADR 24, ADR 29).

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use tests::{PATIENCE, Setup, bulk, eventually, limited, provider, submit_all};

use super::{PROGRAM, broker};

const CAMPAIGN: usize = 8000;
/// Messages a second that the provider takes: what it sends in a minute is a fraction of the campaign.
const RATE: u32 = 20;
const PASSES: &str = "B-";
/// The last that is listened for.
const END: &str = "$JS.ACK.end";

#[tokio::test]
async fn what_is_parked_leaves_together() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.lanes = 1;
        config.nats.ack_wait = "30s".into();
        config.delivery.providers = vec![limited("limited", RATE)];
        config.mailsim.providers = vec![provider("limited")];
    });
    let mut cluster = setup.start_with(0).await?;
    let url = cluster.nats_url()?.to_owned();
    let letters = (0..CAMPAIGN).map(|number| bulk(&format!("customer{number}@limited.example")));
    submit_all(&cluster.api(0)?, letters, |_| {}).await?;

    let client = async_nats::connect(&url).await?;
    let mut told = client.subscribe("$JS.ACK.>").await?;
    client.flush().await?;
    cluster.stack()?.start_worker("worker-1")?;
    let kept = eventually("the campaign has passed", PATIENCE * 2, async || {
        let is_passed = broker::undelivered(&url, &[PASSES]).await? == 0;
        let kept = broker::messages(&url, &[PASSES]).await?;
        Ok((is_passed && kept < CAMPAIGN as u64 / 4).then_some(kept))
    })
    .await?;

    // What comes over the same connection comes behind all that was told before.
    client.publish(END, "".into()).await?;
    let mut alone = 0;
    loop {
        let told = tokio::time::timeout(PATIENCE, told.next()).await?;
        let told = told.context("the connection was closed")?;
        if told.subject.as_str() == END {
            break;
        }
        let passes = told.subject.starts_with(&format!("$JS.ACK.{PASSES}"));
        alone += usize::from(passes && &*told.payload == b"+ACK");
    }
    let passed = CAMPAIGN - kept as usize;
    println!("{alone} of {passed} were acknowledged alone");
    ensure!(alone < passed * 3 / 4, "{alone} of {passed}");
    cluster.take("worker-1")?.kill().await?;
    cluster.finish().await
}
