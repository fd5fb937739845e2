//! A job whose attempt panics, and one whose attempt ends the whole process: both are set aside, and the mail that was
//! in hand with them is delivered.

use std::collections::BTreeMap;
use std::time::Duration;

use api::v1::EventKind;
use futures_util::StreamExt as _;
use tests::{Books, Setup, letter};

use super::PROGRAM;

const INNOCENTS: usize = 300;
const CONNECTIONS: u32 = 6;
const ACK_WAIT: &str = "6s";
/// The first death leaves no note of intent, the next three each leave one. On a slow machine Redis may be too late to take
/// a note or two.
const DEATHS: std::ops::RangeInclusive<usize> = 4..=6;
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the worker is looked at, as a supervisor does.
const LOOK: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_poison_job_is_set_aside() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .configured(|config| {
            config.nats.ack_wait = ACK_WAIT.into();
            config.delivery.limits.connections = CONNECTIONS;
        })
        .allowing("attempt panicked, setting the job aside")
        .allowing("workers died whenever this job was attempted, setting it aside");
    let mut cluster = setup.start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    for number in 0..INNOCENTS {
        books.accepted(
            api.submit(letter(&format!("ann{number}@gmail.example")))
                .await?,
        );
        if number == INNOCENTS / 2 {
            for poison in ["poison-panic@gmail.example", "poison-abort@gmail.example"] {
                books.accepted(api.submit(letter(poison)).await?);
            }
        }
    }
    let mut deaths = 0;
    // A worker that dies of one before another is settled leaves that one to the next, which records the same event again.
    let mut quarantined = BTreeMap::new();
    let mut events = api.events().await?;
    let read = async {
        while books.ended() < INNOCENTS + 2 {
            let Some(event) = events.next().await else {
                break;
            };
            let event = event?;
            if event.kind() == EventKind::Quarantined {
                let said = (event.recipient.clone(), event.detail.clone());
                quarantined.insert(event.id.clone(), said);
            }
            books.happened(event);
        }
        anyhow::Ok(())
    };
    let supervise = async {
        loop {
            cluster.stack()?.start_worker("worker")?;
            while cluster.stack()?.first_ended().is_none() {
                tokio::time::sleep(LOOK).await;
            }
            cluster.take("worker")?;
            deaths += 1;
        }
    };
    tokio::select! {
        done = tokio::time::timeout(PATIENCE, read) => done??,
        failed = supervise => { let never: anyhow::Result<()> = failed; never? }
    }

    let mut said: Vec<(&str, &str)> = quarantined
        .values()
        .map(|(recipient, detail)| (recipient.as_str(), detail.as_str()))
        .collect();
    said.sort_unstable();
    assert_eq!(
        said,
        [
            (
                "poison-abort@gmail.example",
                "every attempt to send it ended the worker"
            ),
            (
                "poison-panic@gmail.example",
                "the attempt to send it failed in a way it never should"
            ),
        ]
    );
    assert!(DEATHS.contains(&deaths), "{deaths} workers died");
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    let cut = deaths * CONNECTIONS as usize;
    assert!(
        reconciled.duplicates.len() <= cut,
        "{:#?}",
        reconciled.duplicates
    );
    cluster.finish().await
}
