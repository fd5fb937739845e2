//! A worker stands still for longer than the queue waits for it: what it held was given to another meanwhile, and it
//! sends none of it when it goes on.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::{Clock as _, SystemClock};
use rustix::process::Signal;
use tests::{Books, Duplicate, Setup, letter, messages, provider, standstill, submit_all};

use super::PROGRAM;
use super::drained::drained;

const MESSAGES: usize = 2000;
/// Longer than the 10 s after which the queue gives a silent worker's jobs to another one. [`standstill`] says how long it
/// is in full.
const STANDSTILL: Duration = Duration::from_secs(15);
/// What a worker may say that finds its deadlines passed.
const SAID_AFTER_A_STANDSTILL: [&str; 7] = [
    "history is away, going on without",
    "hold not proven, job left to others",
    "holds not proven",
    "lanes not leased, trying again",
    "other workers not followed, trying again",
    "redis is away, throttling by local share",
    "tombstones not followed, trying again",
];
/// So many that in some a message is under way and not past its final dot when the worker is stopped.
const CONNECTIONS: u32 = 32;
/// What a message takes from its final dot to its marker, at most.
const MARKER_WRITTEN: SignedDuration = SignedDuration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_stopped_worker_sends_nothing_late() -> anyhow::Result<()> {
    let count = messages(MESSAGES);
    let mut setup = Setup::new(PROGRAM).configured(|config| {
        let mut unhurried = provider("gmail");
        unhurried.latency = "50ms".into();
        config.mailsim.providers = vec![unhurried];
        // The one that stands still has its part of them, too.
        config.nats.lanes = 1;
        config.delivery.limits.connections = CONNECTIONS;
    });
    for message in SAID_AFTER_A_STANDSTILL {
        setup = setup.allowing(message);
    }
    let mut cluster = setup.start_with(2).await?;
    let api = cluster.api(0)?;
    let mut events = api.events().await?;
    let mut books = Books::default();
    let letters = (0..count).map(|number| letter(&format!("customer{number}@gmail.example")));
    submit_all(&api, letters, |answer| books.accepted(answer)).await?;
    books
        .read_until_ended(count / 10, &mut events, PATIENCE)
        .await?;

    let worker = cluster.take("worker-1")?;
    worker.signal(Signal::STOP)?;
    let stopped_at = SystemClock.now();
    tokio::time::sleep(standstill(STANDSTILL)).await;
    worker.signal(Signal::CONT)?;
    books.read_until_ended(count, &mut events, PATIENCE).await?;
    drained(cluster.nats_url()?).await?;
    assert_eq!(worker.stop(PATIENCE).await?.code(), Some(0));

    let reconciled = books.reconcile(cluster.ledger()?);
    println!("{} duplicates", reconciled.duplicates.len());
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", count)].into());
    assert!(
        reconciled.duplicates.len() <= CONNECTIONS as usize,
        "{:#?}",
        reconciled.duplicates
    );
    for duplicate in &reconciled.duplicates {
        assert!(
            was_past_the_dot(duplicate, stopped_at),
            "stopped at {stopped_at}: {duplicate:?}"
        );
    }
    cluster.finish().await
}

/// Whether the first copy had been sent, and perhaps not been marked, when the worker was stopped.
fn was_past_the_dot(duplicate: &Duplicate, stopped_at: Timestamp) -> bool {
    let [first, _] = duplicate.taken_at[..] else {
        return false;
    };
    stopped_at.duration_since(first).abs() < MARKER_WRITTEN
}
