//! A worker dies in the middle of everything: every job still comes to one end, and what was delivered did arrive.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::{Clock as _, SystemClock};
use tests::{Books, Duplicate, Setup, letter, submit_all};

use super::PROGRAM;

const MESSAGES: usize = 5000;
/// Providers that take mail, and connections each takes from all workers together.
const PROVIDERS: usize = 5;
const CONNECTIONS: u32 = 15;
/// Longer than it takes to write a marker, from the provider's reply on, on a machine that has other things to do.
const MARKER_WRITTEN: SignedDuration = SignedDuration::from_secs(2);

#[tokio::test]
async fn a_lost_worker_loses_no_job() -> anyhow::Result<()> {
    let setup =
        Setup::new(PROGRAM).configured(|config| config.delivery.limits.connections = CONNECTIONS);
    let mut cluster = setup.start_with(3).await?;
    let api = cluster.api(0)?;
    let mut events = api.events().await?;
    let (mut books, mut accepted) = (Books::default(), Vec::new());
    let submit = submit_all(
        &api,
        (0..MESSAGES).map(|number| letter(&recipient(number))),
        |answer| {
            accepted.push(answer);
        },
    );
    let follow = async {
        books
            .read_until_ended(MESSAGES / 4, &mut events, Duration::from_secs(60))
            .await?;
        cluster.kill("worker-2").await?;
        let killed_at = SystemClock.now();
        books
            .read_until_ended(MESSAGES, &mut events, Duration::from_secs(180))
            .await?;
        anyhow::Ok(killed_at)
    };
    let ((), killed_at) = tokio::try_join!(submit, follow)?;
    accepted
        .into_iter()
        .for_each(|answer| books.accepted(answer));

    let reconciled = books.reconcile(cluster.ledger()?);
    println!(
        "{:?}, {} duplicates",
        reconciled.endings,
        reconciled.duplicates.len()
    );
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert!(
        reconciled.duplicates.len() <= PROVIDERS * CONNECTIONS as usize,
        "{:#?}",
        reconciled.duplicates
    );
    for duplicate in &reconciled.duplicates {
        assert!(
            is_excusable(duplicate, killed_at),
            "killed at {killed_at}: {duplicate:?}"
        );
    }
    assert_eq!(reconciled.endings["EVENT_KIND_BOUNCED"], MESSAGES / 10);
    assert_eq!(
        reconciled.endings["EVENT_KIND_DELIVERED"],
        MESSAGES - MESSAGES / 10
    );
    cluster.finish().await
}

/// Whether the first copy was past its final dot, and perhaps not yet marked, when the worker died.
fn is_excusable(duplicate: &Duplicate, killed_at: Timestamp) -> bool {
    let [first, _] = duplicate.taken_at[..] else {
        return false;
    };
    let before = killed_at.duration_since(first);
    before < MARKER_WRITTEN && before > SignedDuration::ZERO - MARKER_WRITTEN
}

/// Every stretch of a hundred messages goes to all providers, each with its share.
fn recipient(number: usize) -> String {
    // 37 has no factor in common with 100.
    let provider = match number * 37 % 100 {
        0..45 => "gmail",
        45..60 => "yahoo",
        60..75 => "outlook",
        75..80 => "slow",
        80..90 => "rejects",
        _ => "down",
    };
    format!("customer{number}@{provider}.example")
}
