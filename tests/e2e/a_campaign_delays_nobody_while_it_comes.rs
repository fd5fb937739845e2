//! A campaign comes faster than its provider takes it, though not so much that the provider counts as slow: what another tenant
//! sends meanwhile to others in the same lane, of the same class, does not stand behind it (ADR 30).

use std::time::Duration;

use anyhow::ensure;
use model::{Clock as _, SystemClock};
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
/// Of the campaign so many may come before one of the others that was submitted then. In an optimized build on a quiet machine
/// it is some ten. What keeps a slow machine busy is not told from it by time alone.
const BEFORE: f64 = 1500.0;

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
        let began = SystemClock.now();
        let news = (0..FEW).map(|number| pace::news(&format!("few{number}@free.example")));
        let took = pace::latencies(&cluster, 1, news.collect(), "few", GAP).await?;
        anyhow::Ok((took, began..SystemClock.now(), Instant::now()))
    };
    let ((loaded, all), (mut took, meanwhile, last)) = tokio::try_join!(comes, others)?;
    ensure!(loaded.code == Some(0), "{}{}", loaded.out, loaded.err);
    let ledger = cluster.ledger()?.into_iter();
    let came =
        ledger.filter(|entry| entry.recipient.ends_with(&to) && meanwhile.contains(&entry.time));
    let seconds = meanwhile.end.duration_since(meanwhile.start).as_secs_f64();
    let (pace, p99) = (came.count() as f64 / seconds, quantile(&mut took, 0.99));
    let before = p99 / 1000.0 * pace;
    println!("p99 {p99:.0} ms while a campaign comes: behind {before:.0} of it");
    ensure!(before <= BEFORE, "{p99:.0} ms, behind {before:.0}");
    ensure!(last < all, "all of the campaign had come before");
    cluster.take("worker-1")?.kill().await?;
    cluster.finish().await
}
