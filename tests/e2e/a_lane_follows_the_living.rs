//! Workers share out the lanes among themselves: each lane has one worker while there are enough lanes, and a worker that
//! comes, leaves or dies moves them within seconds.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tests::{Cluster, Setup, eventually};
use tokio::time::Instant;

use super::PROGRAM;

const LANES: [&str; 6] = ["h0", "h1", "h2", "h3", "o0", "o1"];
/// A dead worker is taken to be alive for 5 s after its last sign of life.
const DEATH: Duration = Duration::from_secs(10);
/// One that leaves says so.
const GOODBYE: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_lane_follows_the_living() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| config.nats.lanes = 4);
    let mut cluster = setup.start_with(2).await?;
    shared_out(&cluster, &["worker-1", "worker-2"], DEATH).await?;

    cluster.kill("worker-1").await?;
    shared_out(&cluster, &["worker-2"], DEATH).await?;

    cluster.stack()?.start_worker("worker-3")?;
    shared_out(&cluster, &["worker-2", "worker-3"], DEATH).await?;

    let leaving = cluster.take("worker-2")?;
    leaving.stop(Duration::from_secs(20)).await?;
    shared_out(&cluster, &["worker-3"], GOODBYE).await?;
    cluster.finish().await
}

/// Waits until each of `workers` has a lane, and together they have every lane once.
async fn shared_out(cluster: &Cluster, workers: &[&str], patience: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let what = format!("{workers:?} share out the lanes");
    eventually(&what, patience, async || {
        let mut all = Vec::new();
        let mut idle = false;
        for worker in workers {
            let leased = leased(cluster, worker)?;
            idle |= leased.is_empty();
            all.extend(leased);
        }
        all.sort();
        Ok((!idle && all == LANES).then_some(()))
    })
    .await?;
    println!("{what} after {:?}", began.elapsed());
    Ok(())
}

/// The lanes a worker has by its own last word.
fn leased(cluster: &Cluster, worker: &str) -> anyhow::Result<BTreeSet<String>> {
    let log = cluster.log(worker)?;
    let Some(line) = log.lines().rfind(|line| line.contains("lanes leased")) else {
        return Ok(BTreeSet::new());
    };
    let line: Value = serde_json::from_str(line).context("read a log line")?;
    let lanes = line["lanes"].as_str().context("lanes are named")?;
    Ok(lanes.split(' ').map(String::from).collect())
}
