//! The one nats-server dies again and again and comes back with its data: what it acknowledged is there, and every job
//! still comes to one end.

use std::collections::BTreeSet;
use std::time::Duration;

use tests::{Books, Setup, keyed, messages, moments, submit_stubbornly};
use tokio::sync::watch;

use super::PROGRAM;
use super::drained::drained;

const MESSAGES: usize = 3000;
const KILLS: usize = 3;
const WORKERS: usize = 2;
const CONNECTIONS: u32 = 6;
/// What the services may say while there is no queue.
const SAID_WITHOUT_A_QUEUE: [&str; 10] = [
    "events not stored yet, publishing again",
    "hold not proven, job left to others",
    "holds not proven",
    "job not settled, leaving it to redelivery",
    "lanes not leased, trying again",
    "message not accepted",
    "other workers not followed, trying again",
    "parked job not settled, leaving it to redelivery",
    "pull failed, trying again",
    "tombstones not followed, trying again",
];
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_killed_queue_loses_nothing() -> anyhow::Result<()> {
    let count = messages(MESSAGES);
    let moments = moments(KILLS, count);
    let mut setup =
        Setup::new(PROGRAM).configured(|config| config.delivery.limits.connections = CONNECTIONS);
    for message in SAID_WITHOUT_A_QUEUE {
        setup = setup.allowing(message);
    }
    let mut cluster = setup.start_with(WORKERS).await?;
    let api = cluster.api(0)?;
    let (mut books, mut repeated) = (Books::default(), BTreeSet::new());
    let (answered, mut progress) = watch::channel(0);
    let letters = (0..count).map(|number| {
        keyed(
            &format!("customer{number}@gmail.example"),
            &format!("letter/{number}"),
        )
    });
    let submit = submit_stubbornly(&api, letters, |answer| {
        if answer.calls > 1 {
            repeated.insert(answer.response.recipients[0].recipient.clone());
        }
        books.accepted(answer.response);
        answered.send_modify(|count| *count += 1);
    });
    let kill = async {
        for moment in moments {
            progress.wait_for(|answered| *answered >= moment).await?;
            cluster.stack()?.nats_mut()[0].kill_and_restart().await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(submit, kill)?;

    books
        .read_until_ended(count, &mut api.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    println!(
        "{} calls repeated, {} duplicates",
        repeated.len(),
        reconciled.duplicates.len()
    );
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", count)].into());
    let cut = KILLS * CONNECTIONS as usize;
    assert!(
        reconciled.duplicates.len() <= cut,
        "{:#?}",
        reconciled.duplicates
    );
    cluster.finish().await
}
