//! Ingest, the nats-server, Redis, and the leader of three nats-servers stand still for a while, as on a machine that is
//! paused, and go on: every job comes to one end, and nothing is sent twice.

use std::time::Duration;

use postrider::local::Child;
use rustix::process::Signal;
use tests::{Cluster, Setup, messages, standstill};

use super::PROGRAM;
use super::a_killed_node_loses_nothing::leader;
use super::a_killed_queue_loses_nothing::SAID_WITHOUT_A_QUEUE;
use super::under_fire::{Clients, survive};

const MESSAGES: usize = 1500;
const WORKERS: usize = 3;
/// Longer than [`ACK_WAIT`] and than the queue has to acknowledge. [`standstill`] says how long it is in full.
const STANDSTILL: Duration = Duration::from_secs(6);
const ACK_WAIT: &str = "5s";
/// What the services may say beside [`SAID_WITHOUT_A_QUEUE`].
const SAID_MEANWHILE: [&str; 8] = [
    "history is away, going on without",
    "no nats-server could be asked how it is",
    "no nats-server is connected, accepting nothing",
    "not every nats-server could be asked whether it syncs",
    "projection of events interrupted, resuming",
    // By the HTTP/2 server, of calls that were given up while it stood still; theirs is the next connection.
    "recv_reset; remotely-reset pending-accept streams reached limit (20)",
    "redis is away, throttling by local share",
    "schedule not stored, publishing again",
];

#[tokio::test]
async fn a_stopped_process_loses_nothing() -> anyhow::Result<()> {
    let said = SAID_MEANWHILE.iter().chain(&SAID_WITHOUT_A_QUEUE);
    let setup = said.fold(Setup::new(PROGRAM), |setup, message| {
        setup.allowing(message)
    });
    stand_still(setup, 3, async |cluster, number| {
        let stack = cluster.stack()?;
        match number {
            0 => stop(stack.service("ingest")?).await,
            1 => stop(stack.nats()[0].child()).await,
            _ => stop(stack.redis().child()).await,
        }
    })
    .await
}

#[tokio::test]
async fn a_stopped_node_loses_nothing() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .on_three_nodes()
        .saying_anything()
        .configured(|config| config.nats.lanes = 1);
    stand_still(setup, 1, async |cluster, _| {
        let leader = leader(cluster).await?;
        stop(cluster.stack()?.nats()[leader].child()).await
    })
    .await
}

/// A run in which `strike` stops something `times` times.
async fn stand_still(
    setup: Setup,
    times: usize,
    strike: impl AsyncFnMut(&mut Cluster, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let setup = setup.configured(|config| config.nats.ack_wait = ACK_WAIT.into());
    let mut cluster = setup.start_with(WORKERS).await?;
    let count = messages(MESSAGES);
    let survived = survive(&mut cluster, Clients::Call, count, times, strike).await?;
    assert!(survived.duplicates.is_empty(), "{survived:#?}");
    cluster.finish().await
}

async fn stop(process: &Child) -> anyhow::Result<()> {
    println!("{} stands still", process.name());
    process.signal(Signal::STOP)?;
    tokio::time::sleep(standstill(STANDSTILL)).await;
    process.signal(Signal::CONT)
}
