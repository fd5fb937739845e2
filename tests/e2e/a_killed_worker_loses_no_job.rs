//! Workers die in the middle of everything, again and again: every job still comes to one end, what was delivered did
//! arrive, and what arrived twice did so because a session was cut between the final dot and the marker.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::{Clock as _, SystemClock};
use tests::{Books, Duplicate, Setup, letter, messages, moments, submit_all};

use super::PROGRAM;
use super::drained::drained;

const MESSAGES: usize = 5000;
const KILLS: usize = 3;
const WORKERS: usize = 3;
/// Providers that take mail, and connections each takes from all workers together.
const PROVIDERS: usize = 5;
const CONNECTIONS: u32 = 15;
/// Longer than it takes to write a marker, from the provider's reply on, on a machine that has other things to do.
const MARKER_WRITTEN: SignedDuration = SignedDuration::from_secs(2);
const ACK_WAIT: &str = "5s";
/// Its shortest, 20 % less, is twice [`ACK_WAIT`]: where that is not kept, a deferred job and the redelivery of its last
/// attempt may be in hand at once.
const RETRY: &str = "13s";
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_killed_worker_loses_no_job() -> anyhow::Result<()> {
    let count = messages(MESSAGES);
    let moments = moments(KILLS, count);
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.ack_wait = ACK_WAIT.into();
        config.delivery.limits.connections = CONNECTIONS;
        config.delivery.retry_delays = vec![RETRY.into()];
    });
    let mut cluster = setup.start_with(WORKERS).await?;
    let api = cluster.api(0)?;
    let mut events = api.events().await?;
    let (mut books, mut accepted, mut killed) = (Books::default(), Vec::new(), Vec::new());
    let letters = (0..count).map(|number| letter(&recipient(number)));
    let submit = submit_all(&api, letters, |answer| accepted.push(answer));
    let follow = async {
        for (number, moment) in moments.into_iter().enumerate() {
            books
                .read_until_ended(moment, &mut events, PATIENCE)
                .await?;
            // The longest-lived dies, and another takes its place: three run at any time.
            cluster.kill(&format!("worker-{}", number + 1)).await?;
            killed.push(SystemClock.now());
            let next = format!("worker-{}", WORKERS + number + 1);
            cluster.stack()?.start_worker(&next)?;
        }
        books.read_until_ended(count, &mut events, PATIENCE).await
    };
    tokio::try_join!(submit, follow)?;
    for answer in accepted {
        books.accepted(answer);
    }
    drained(cluster.nats_url()?).await?;

    let reconciled = books.reconcile(cluster.ledger()?);
    println!(
        "{:?}, {} duplicates",
        reconciled.endings,
        reconciled.duplicates.len()
    );
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    let cut = KILLS * PROVIDERS * CONNECTIONS as usize;
    assert!(
        reconciled.duplicates.len() <= cut,
        "{:#?}",
        reconciled.duplicates
    );
    for duplicate in &reconciled.duplicates {
        assert!(
            is_excusable(duplicate, &killed),
            "killed at {killed:?}: {duplicate:?}"
        );
    }
    assert_eq!(
        reconciled.endings,
        [
            ("EVENT_KIND_BOUNCED", count / 10),
            ("EVENT_KIND_DELIVERED", count - count / 10)
        ]
        .into()
    );
    cluster.finish().await
}

/// Whether each copy but the last was past its final dot, and perhaps not yet marked, when a worker died: its session took
/// nothing after it.
fn is_excusable(duplicate: &Duplicate, killed: &[Timestamp]) -> bool {
    let is_cut = |taken: &Timestamp| {
        let mut since = killed.iter().map(|killed| killed.duration_since(*taken));
        since.any(|since| since.abs() < MARKER_WRITTEN)
    };
    let cut = duplicate.taken_at.split_last();
    duplicate.follows_cuts && cut.is_some_and(|(_, cut)| cut.iter().all(is_cut))
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
