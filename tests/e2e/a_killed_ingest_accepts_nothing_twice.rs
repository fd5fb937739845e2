//! Ingest dies again and again under its callers: what they send again under the same keys is one message each.

use std::time::Duration;

use tests::{Books, Setup, keyed, messages, moments, submit_stubbornly};
use tokio::sync::watch;

use super::PROGRAM;
use super::drained::drained;

const MESSAGES: usize = 2000;
const KILLS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_killed_ingest_accepts_nothing_twice() -> anyhow::Result<()> {
    let count = messages(MESSAGES);
    let moments = moments(KILLS, count);
    let mut cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let (mut books, mut repeated) = (Books::default(), 0);
    let (answered, mut progress) = watch::channel(0);
    let letters = (0..count).map(|number| {
        keyed(
            &format!("customer{number}@gmail.example"),
            &format!("letter/{number}"),
        )
    });
    let submit = submit_stubbornly(&api, letters, |answer| {
        repeated += usize::from(answer.calls > 1);
        books.accepted(answer.response);
        answered.send_modify(|count| *count += 1);
    });
    let kill = async {
        for moment in moments {
            progress.wait_for(|answered| *answered >= moment).await?;
            cluster.kill("ingest").await?;
            cluster.stack()?.start_ingest().await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(submit, kill)?;

    println!("{repeated} of {count} messages took more than one call");
    assert!(repeated >= KILLS, "the kills met no call");
    books
        .read_until_ended(count, &mut api.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert!(
        reconciled.duplicates.is_empty(),
        "{:#?}",
        reconciled.duplicates
    );
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", count)].into());
    cluster.finish().await
}
