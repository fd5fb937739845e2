//! The queue does not answer while a worker sends, so that it settles nothing, and then the worker dies. What it delivered
//! comes back to another worker, which finds the markers and sends none of it again.

use std::time::Duration;

use rustix::process::Signal;
use tests::{Books, Cluster, PATIENCE, Setup, eventually, letter, submit_all};

use super::PROGRAM;
use super::drained::drained;

const MESSAGES: usize = 600;
const CONNECTIONS: u32 = 4;
/// So many are delivered before the queue falls silent.
const BEFORE: usize = 50;
/// So many at least are delivered after that: well above what the connections can cut.
const UNSETTLED: usize = 100;
/// Jobs in hand are few enough that the worker cannot send everything, and many enough for the test.
const WINDOW: usize = 3200;

#[tokio::test]
async fn a_worker_that_dies_unsettled_sends_nothing_twice() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .configured(|config| {
            config.nats.lanes = 1;
            config.delivery.window = WINDOW;
            config.delivery.limits.connections = CONNECTIONS;
        })
        .saying_anything();
    let mut cluster = setup.start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    let letters = (0..MESSAGES).map(|number| letter(&format!("customer{number}@gmail.example")));
    submit_all(&api, letters, |answer| books.accepted(answer)).await?;

    cluster.stack()?.start_worker("worker-1")?;
    let silent_at = delivered(&cluster, BEFORE).await?;
    cluster.stack()?.nats()[0].child().signal(Signal::STOP)?;
    let unsettled = delivered(&cluster, silent_at + UNSETTLED).await? - silent_at;
    cluster.kill("worker-1").await?;
    cluster.stack()?.nats()[0].child().signal(Signal::CONT)?;
    println!("{unsettled} and more were delivered and not settled");

    cluster.stack()?.start_worker("worker-2")?;
    books
        .read_until_ended(MESSAGES, &mut api.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert!(
        reconciled.duplicates.len() <= CONNECTIONS as usize,
        "{:#?}",
        reconciled.duplicates
    );
    cluster.finish().await
}

/// Waits until `count` messages have arrived, and answers how many have.
async fn delivered(cluster: &Cluster, count: usize) -> anyhow::Result<usize> {
    eventually("messages arrive", Duration::from_secs(60), async || {
        let arrived = cluster.ledger()?.len();
        Ok((arrived >= count).then_some(arrived))
    })
    .await
}
