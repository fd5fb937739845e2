//! The one nats-server dies again and again and comes back with its data: what it acknowledged is there, and every job
//! still comes to one end.

use tests::{Setup, messages};

use super::PROGRAM;
use super::under_fire::{Clients, survive};

const MESSAGES: usize = 3000;
const KILLS: usize = 3;
const WORKERS: usize = 3;
const CONNECTIONS: u32 = 6;
/// What the services may say while there is no queue.
pub(crate) const SAID_WITHOUT_A_QUEUE: [&str; 11] = [
    "events not stored yet, publishing again",
    "hold not proven, job left to others",
    "holds not proven",
    "job not settled, leaving it to redelivery",
    "lanes not leased, trying again",
    "message not accepted",
    "no nats-server could be asked how it is",
    "other workers not followed, trying again",
    "parked job not settled, leaving it to redelivery",
    "pull failed, trying again",
    "tombstones not followed, trying again",
];

#[tokio::test]
async fn a_killed_queue_loses_nothing() -> anyhow::Result<()> {
    let mut setup =
        Setup::new(PROGRAM).configured(|config| config.delivery.limits.connections = CONNECTIONS);
    for message in SAID_WITHOUT_A_QUEUE {
        setup = setup.allowing(message);
    }
    let mut cluster = setup.start_with(WORKERS).await?;
    let (clients, count) = (Clients::Call, messages(MESSAGES));
    let survived = survive(&mut cluster, clients, count, KILLS, async |cluster, _| {
        cluster.stack()?.nats_mut()[0].kill_and_restart().await
    })
    .await?;
    let cut = KILLS * CONNECTIONS as usize;
    assert!(survived.duplicates.len() <= cut, "{survived:#?}");
    cluster.finish().await
}
