//! A worker that is asked to end does so at once and cleanly: what it had in hand is finished or given back.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::Context as _;
use tests::{Books, PATIENCE, Setup, eventually, letter, provider, submit_all};
use tokio::time::Instant;

use super::PROGRAM;

const MESSAGES: usize = 1000;
/// A drain ends what is past its final dot and leaves everything else.
const AT_ONCE: Duration = Duration::from_secs(10);
/// What waits for an answer of the queue gives up.
const WITHOUT_A_QUEUE: Duration = Duration::from_secs(40);

#[tokio::test]
async fn sigterm_drains_without_duplicates() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        let mut unhurried = provider("gmail");
        unhurried.latency = "5ms".into();
        config.mailsim.providers = vec![unhurried];
        config.delivery.limits.connections = 4;
    });
    let mut cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let mut events = api.events().await?;
    let mut books = Books::default();
    let requests = (0..MESSAGES).map(|number| letter(&format!("customer{number}@gmail.example")));
    submit_all(&api, requests, |answer| books.accepted(answer)).await?;
    books
        .read_until_ended(MESSAGES / 10, &mut events, PATIENCE)
        .await?;

    let asked = Instant::now();
    let status = cluster.take("worker-1")?.stop(PATIENCE).await?;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    let arrived = cluster.ledger()?.len();
    assert!(
        arrived < MESSAGES,
        "everything was sent before the worker was asked to end"
    );

    cluster.stack()?.start_worker("worker-2")?;
    books
        .read_until_ended(MESSAGES, &mut events, PATIENCE)
        .await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert!(
        reconciled.duplicates.is_empty(),
        "{:#?}",
        reconciled.duplicates
    );
    let delivered = reconciled.endings.get("EVENT_KIND_DELIVERED");
    assert_eq!(*delivered.context("nothing was delivered")?, MESSAGES);
    cluster.finish().await
}

/// What it has in hand it cannot give back: that comes to others by itself.
#[tokio::test]
async fn without_a_queue_it_ends_all_the_same() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).saying_anything();
    let mut cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let requests = (0..MESSAGES).map(|number| letter(&format!("customer{number}@gmail.example")));
    submit_all(&api, requests, drop).await?;
    cluster.stack()?.nats_mut()[0].end().await?;
    cluster.logged("worker-1", "event: disconnected").await?;

    let asked = Instant::now();
    let status = cluster.take("worker-1")?.stop(PATIENCE).await?;
    println!("{status} after {:?}", asked.elapsed());
    assert_eq!(status.signal(), None, "{status}");
    assert!(asked.elapsed() < WITHOUT_A_QUEUE, "{:?}", asked.elapsed());
    cluster.stack()?.nats_mut()[0].start_again().await?;
    cluster.finish().await
}

#[tokio::test]
async fn a_message_past_its_final_dot_is_waited_for() -> anyhow::Result<()> {
    // Longer than a drain gives to what is not yet past its dot.
    let setup = Setup::new(PROGRAM).configured(|config| config.mailsim.slow = "4s".into());
    let mut cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    books.accepted(api.submit(letter("slow@gmail.example")).await?);
    // The provider writes it down before it answers.
    eventually("the message is past its final dot", PATIENCE, async || {
        Ok((!cluster.ledger()?.is_empty()).then_some(()))
    })
    .await?;

    let status = cluster.take("worker-1")?.stop(PATIENCE).await?;
    assert_eq!(status.code(), Some(0), "{status}");
    cluster.stack()?.start_worker("worker-2")?;
    cluster.logged("worker-2", "delivery working").await?;
    books
        .read_until_ended(1, &mut api.events().await?, PATIENCE)
        .await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert!(
        reconciled.duplicates.is_empty(),
        "{:#?}",
        reconciled.duplicates
    );
    cluster.finish().await
}
