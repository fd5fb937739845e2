//! Workers share out the lanes among themselves: each lane has one worker while there are enough lanes, and a worker that
//! comes, leaves or dies moves them within seconds.

use std::time::Duration;

use tests::Setup;

use super::PROGRAM;

/// A dead worker is taken to be alive for 5 s after its last sign of life.
const DEATH: Duration = Duration::from_secs(10);
/// One that leaves says so.
const GOODBYE: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_lane_follows_the_living() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| config.nats.lanes = 4);
    let mut cluster = setup.start_with(2).await?;
    cluster.kill("worker-1").await?;
    cluster.shared_out(&["worker-2"], DEATH).await?;

    cluster.stack()?.start_worker("worker-3")?;
    cluster.shared_out(&["worker-2", "worker-3"], DEATH).await?;

    let leaving = cluster.take("worker-2")?;
    leaving.stop(Duration::from_secs(20)).await?;
    cluster.shared_out(&["worker-3"], GOODBYE).await?;
    cluster.finish().await
}
