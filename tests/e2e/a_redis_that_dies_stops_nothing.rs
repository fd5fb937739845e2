//! Redis is killed and stays dead: mail is accepted and delivered as before, once, and events still flow.

use rustix::process::Signal;
use tests::{Books, PATIENCE, Setup, letter, submit_all};
use tonic::Code;

use super::PROGRAM;

const MESSAGES: usize = 600;

#[tokio::test]
async fn a_redis_that_dies_stops_nothing() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .configured(|config| config.delivery.limits.rate = "100/s".into())
        .allowing("history is away, going on without")
        .allowing("redis is away, throttling by local share")
        .allowing("timeline not read");
    let mut cluster = setup.start_with(2).await?;
    let api = cluster.api(0)?;
    let mut events = api.events().await?;
    let mut books = Books::default();
    let letters = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| letter(&format!("customer{number}@gmail.example")))
    };
    submit_all(&api, letters(0..MESSAGES / 2), |answer| {
        books.accepted(answer)
    })
    .await?;
    books
        .read_until_ended(MESSAGES / 10, &mut events, PATIENCE)
        .await?;
    cluster.stack()?.redis().child().signal(Signal::KILL)?;

    let mut last = String::new();
    submit_all(&api, letters(MESSAGES / 2..MESSAGES), |answer| {
        last.clone_from(&answer.message_id);
        books.accepted(answer);
    })
    .await?;
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

    let refused = api.get(&last).await.err().map(|status| status.code());
    assert_eq!(refused, Some(Code::Unavailable));
    cluster.finish().await
}
