//! One provider takes next to nothing while a small window could be filled with its mail many times over: another
//! tenant's mail to others of the same lane passes by, and what waits is not lost.

use std::time::Duration;

use api::v1::{CancelRequest, SubmitResponse};
use delivery::config::{RawLimits, RawProvider};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tests::{Api, Books, Setup, letter, provider, submit_all};
use tokio::time::Instant;

use super::PROGRAM;
use super::drained::drained;

/// Ten windows full.
const SLOW: usize = 2000;
const WINDOW: usize = 200;
const OTHERS: usize = 100;
/// A few seconds until the slow provider counts as slow, and some for its jobs to make room on a busy machine. Behind them
/// it would be half an hour.
const PROMPT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_slow_provider_delays_no_other() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        config.nats.lanes = 1;
        config.delivery.window = WINDOW;
        config.delivery.providers = vec![one_message_a_second("slow")];
    });
    let mut cluster = setup.start().await?;
    cluster.stack()?.start_ingest().await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    let (mut slow, mut others) = (Vec::new(), Books::default());
    let letters = (0..SLOW).map(|number| letter(&format!("customer{number}@slow.example")));
    submit_all(&acme, letters, |answer| slow.push(answer)).await?;
    cluster.stack()?.start_worker("worker-1")?;
    cluster.logged("worker-1", "delivery working").await?;

    let began = Instant::now();
    let letters = (0..OTHERS).map(|number| letter(&other(number)));
    submit_all(&globex, letters, |answer| others.accepted(answer)).await?;
    others
        .read_until_ended(OTHERS, &mut globex.events().await?, PATIENCE)
        .await?;
    let took = began.elapsed();
    println!("{OTHERS} messages passed {SLOW} in {took:?}");
    assert!(took < PROMPT, "{took:?}");
    cluster
        .logged("worker-1", "site is slow, jobs parked")
        .await?;

    let mut books = Books::default();
    cancel_all(&acme, &slow).await?;
    slow.into_iter().for_each(|answer| books.accepted(answer));
    books
        .read_until_ended(SLOW, &mut acme.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let (to_slow, to_others) = cluster
        .ledger()?
        .into_iter()
        .partition(|entry| entry.recipient.ends_with("@slow.example"));
    let reconciled = [books.reconcile(to_slow), others.reconcile(to_others)];
    for reconciled in &reconciled {
        assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
        assert_eq!(reconciled.duplicates.len(), 0);
    }
    let [slow, others] = reconciled.map(|reconciled| reconciled.endings);
    assert_eq!(slow.values().sum::<usize>(), SLOW, "{slow:?}");
    assert_eq!(others, [("EVENT_KIND_DELIVERED", OTHERS)].into());
    cluster.finish().await
}

/// More domains whose exchangers never greet than a stream has room for, one message each.
const DEAD: usize = 50;
const SMALL_WINDOW: usize = 240;

#[tokio::test]
async fn many_dead_domains_delay_no_other() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        config.nats.lanes = 1;
        config.delivery.window = SMALL_WINDOW;
        let dead = (0..DEAD).map(|number| mailsim::config::RawProvider {
            latency: "2min".into(),
            ..provider(&format!("dead{number}"))
        });
        config.mailsim.providers.extend(dead);
    });
    let mut cluster = setup.start().await?;
    cluster.stack()?.start_ingest().await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    let letters = (0..DEAD).map(|number| letter(&format!("ann@dead{number}.example")));
    submit_all(&acme, letters, |_| {}).await?;
    let mut others = Books::default();
    let letters = (0..OTHERS).map(|number| letter(&other(number)));
    submit_all(&globex, letters, |answer| others.accepted(answer)).await?;
    cluster.stack()?.start_worker("worker-1")?;
    cluster.logged("worker-1", "delivery working").await?;

    let began = Instant::now();
    others
        .read_until_ended(OTHERS, &mut globex.events().await?, PATIENCE)
        .await?;
    let took = began.elapsed();
    println!("{OTHERS} messages passed {DEAD} dead domains in {took:?}");
    assert!(took < PROMPT, "{took:?}");
    cluster.finish().await
}

/// Asks for everything to be cancelled that has not come to its end.
async fn cancel_all(api: &Api, sent: &[SubmitResponse]) -> anyhow::Result<()> {
    let cancel = |sent: &SubmitResponse| {
        let id = sent.message_id.clone();
        async move { api.messages().cancel(CancelRequest { id }).await }
    };
    let cancelling = stream::iter(sent).map(cancel).buffer_unordered(32);
    cancelling.try_for_each(async |_| Ok(())).await?;
    Ok(())
}

fn one_message_a_second(name: &str) -> RawProvider {
    RawProvider {
        name: name.into(),
        mx: vec![format!(".{name}.example")],
        limits: RawLimits {
            rate: "1/s".into(),
            ..RawLimits::default()
        },
        ..RawProvider::default()
    }
}

fn other(number: usize) -> String {
    let provider = ["gmail", "outlook"][number % 2];
    format!("customer{number}@{provider}.example")
}
