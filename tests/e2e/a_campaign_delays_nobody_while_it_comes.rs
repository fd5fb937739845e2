//! A campaign comes faster than its provider takes it, though not so much that the provider counts as slow: what another tenant
//! sends meanwhile to others in the same lane, of the same class, does not stand behind it (ADR 30).

use std::time::Duration;

use anyhow::ensure;
use tests::meter::quantile;
use tests::{Setup, limited, provider};
use tokio::time::Instant;

use super::{PROGRAM, lanes, pace};

const CAMPAIGN: &str = "40000";
/// Messages a second that its provider takes.
const RATE: u32 = 300;
/// Until the lane would be long.
const UNDER_WAY: Duration = Duration::from_secs(1);
const FEW: usize = 100;
const GAP: Duration = Duration::from_millis(10);
/// Behind 2,000 of the campaign it would be ten seconds.
const AT_ONCE: f64 = 3000.0;

#[tokio::test]
async fn a_campaign_delays_nobody_while_it_comes() -> anyhow::Result<()> {
    let limited_one = lanes::beside("free", "limited", 1)?.concat();
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        config.delivery.providers = vec![limited(&limited_one, RATE)];
        config.mailsim.providers = vec![provider(&limited_one), provider("free")];
    });
    let mut cluster = setup.start_with(1).await?;
    let to = format!("{limited_one}.example");
    let load = [
        "load",
        "--class",
        "bulk",
        "--messages",
        CAMPAIGN,
        "--to",
        &to,
    ];
    let verbs = cluster.verbs()?;
    let comes = async { anyhow::Ok((verbs.run(&load).await?, Instant::now())) };
    let others = async {
        tokio::time::sleep(UNDER_WAY).await;
        let news = (0..FEW).map(|number| pace::news(&format!("few{number}@free.example")));
        let took = pace::latencies(&cluster, 1, news.collect(), "few", GAP).await?;
        anyhow::Ok((took, Instant::now()))
    };
    let ((loaded, all), (mut took, last)) = tokio::try_join!(comes, others)?;
    ensure!(loaded.code == Some(0), "{}{}", loaded.out, loaded.err);
    let p99 = quantile(&mut took, 0.99);
    println!("p99 {p99:.0} ms while a campaign comes");
    ensure!(p99 <= AT_ONCE, "{p99:.0} ms");
    ensure!(last < all, "all of the campaign had come before");
    cluster.take("worker-1")?.kill().await?;
    cluster.finish().await
}
