//! While a big provider takes less than there is, its own lanes are simply not pulled (ADR 26): nothing is parked, and nobody else
//! waits. Mail for a provider that has stopped, and for another one whose mail stands in these lanes, is parked as everywhere.

use std::time::Duration;

use anyhow::Context as _;
use api::v1::SubmitRequest;
use mailsim::config::RawProvider;
use serde_json::Value;
use tests::{
    Books, Cluster, PATIENCE, Setup, bulk, eventually, letter, limited, own_lanes, provider,
    submit_all,
};
use tokio::time::Instant;

use super::PROGRAM;
use super::broker;

const FEW: usize = 40;
/// Seconds: half of what the few take at two a second.
const LIFETIME: u32 = 10;
/// Messages a second that a slow provider takes.
const RATE: u32 = 40;
/// So many that a provider at this rate is slow.
const MANY: usize = 2000;
/// So many that a tenant's share of each is more than it has there, and nothing overflows (ADR 30).
const LANES: u32 = 5;
/// After so long the provider's jobs have grown old, and their site is slow; a good part of them is not pulled yet.
const OLD: Duration = Duration::from_secs(7);
/// Behind the slow provider's mail it would be half a minute.
const PROMPT: Duration = Duration::from_secs(10);
/// For a worker whose streams have some ten of it each, and whose sites keep ten.
const SMALL_WINDOW: usize = 400;
/// For one whose streams have some two hundred of it each, or three hundred while there is another worker.
const WINDOW: usize = 4000;
/// What it has in hand of two streams, and some on their way. With what the two times before left it would be over a thousand.
const TWO_STREAMS: usize = 700;
/// As long as it takes until a window is full and its site is known to be slow.
const NOTICED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn at_its_limit_nothing_is_parked_and_nobody_else_waits() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        config.nats.lanes = 1;
        config.nats.own_lanes = vec![own_lanes("limited", &["limited.example"], LANES)];
        config.delivery.window = 3 * MANY;
        config.delivery.providers = vec![limited("limited", RATE)];
        config.mailsim.providers = vec![provider("limited"), provider("gmail")];
    });
    let cluster = setup.start_with(1).await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    let (mut many, mut few) = (Books::default(), Books::default());
    let began = Instant::now();
    let campaign = (0..MANY).map(|number| bulk(&format!("customer{number}@limited.example")));
    submit_all(&acme, campaign, |answer| many.accepted(answer)).await?;
    tokio::time::sleep_until(began + OLD).await;

    let asked = Instant::now();
    let letters = (0..FEW).map(|number| bulk(&format!("friend{number}@gmail.example")));
    submit_all(&globex, letters, |answer| few.accepted(answer)).await?;
    few.read_until_ended(FEW, &mut globex.events().await?, PROMPT)
        .await?;
    let url = cluster.nats_url()?;
    let left = broker::undelivered(url, &["B-default-limited"]).await?;
    println!("{FEW} took {:?}, {left} are not pulled", asked.elapsed());
    assert!(left > 0, "the windows hold all that was not sent");

    many.read_until_ended(MANY, &mut acme.events().await?, PATIENCE)
        .await?;
    let (took, ideal) = (began.elapsed().as_secs_f64(), MANY as f64 / f64::from(RATE));
    println!("{MANY} took {took:.1} s, at {RATE} a second {ideal:.1} s");
    assert!(took < ideal * 1.3, "{took:.1} s against {ideal:.1}");
    for (name, info) in broker::streams(url).await? {
        let scheduled = info.state.last_sequence;
        assert!(
            !name.starts_with('D') || scheduled == 0,
            "{name}: {scheduled}"
        );
    }
    let (to_few, to_many) = cluster
        .ledger()?
        .into_iter()
        .partition(|entry| entry.recipient.starts_with("friend"));
    for reconciled in [few.reconcile(to_few), many.reconcile(to_many)] {
        assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
        assert_eq!(reconciled.duplicates.len(), 0);
    }
    cluster.finish().await
}

/// A provider that sends no reply at all.
#[tokio::test]
async fn once_it_has_stopped_its_mail_is_parked_as_any_other() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.own_lanes = vec![own_lanes("silent", &["silent.example"], 1)];
        config.delivery.window = SMALL_WINDOW;
        config.mailsim.providers = vec![RawProvider {
            latency: "2min".into(),
            ..provider("silent")
        }];
    });
    let cluster = setup.start_with(1).await?;
    let letters = (0..MANY / 4).map(|number| bulk(&format!("customer{number}@silent.example")));
    submit_all(&cluster.api(0)?, letters, drop).await?;
    are_parked(&cluster, "DB-default-silent-0").await?;
    eventually("all have passed the window", PATIENCE, async || {
        let ready = broker::undelivered(cluster.nats_url()?, &["B-"]).await?;
        Ok((ready == 0).then_some(()))
    })
    .await?;
    cluster.finish().await
}

/// A domain that is not the provider's after all stands in its lanes, and its exchangers are slow.
#[tokio::test]
async fn another_providers_mail_in_its_lanes_is_parked_as_any_other() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        let domains = ["gmail.example", "limited.example"];
        config.nats.own_lanes = vec![own_lanes("gmail", &domains, 1)];
        config.delivery.window = SMALL_WINDOW;
        config.delivery.providers = vec![limited("limited", 1)];
        config.mailsim.providers = vec![provider("limited"), provider("gmail")];
    });
    let cluster = setup.start_with(1).await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    let letters = (0..MANY / 4).map(|number| bulk(&format!("customer{number}@limited.example")));
    submit_all(&acme, letters, drop).await?;
    let mut books = Books::default();
    let letters = (0..FEW).map(|number| bulk(&format!("friend{number}@gmail.example")));
    submit_all(&globex, letters, |answer| books.accepted(answer)).await?;
    books
        .read_until_ended(FEW, &mut globex.events().await?, PATIENCE)
        .await?;
    are_parked(&cluster, "DB-default-gmail-0").await?;
    cluster.finish().await
}

/// What waits in hand until its time is over is not sent.
#[tokio::test]
async fn what_has_its_turn_too_late_is_not_sent() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.own_lanes = vec![own_lanes("limited", &["limited.example"], 1)];
        config.delivery.providers = vec![limited("limited", 2)];
        config.mailsim.providers = vec![provider("limited")];
    });
    let cluster = setup.start_with(1).await?;
    let (api, mut books) = (cluster.api(0)?, Books::default());
    let letters = (0..FEW).map(|number| SubmitRequest {
        lifetime_seconds: LIFETIME,
        ..letter(&format!("customer{number}@limited.example"))
    });
    submit_all(&api, letters, |answer| books.accepted(answer)).await?;
    books
        .read_until_ended(FEW, &mut api.events().await?, PATIENCE)
        .await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    let endings = reconciled.endings;
    println!("{endings:?}");
    assert_eq!(endings.len(), 2, "{endings:?}");
    assert!(endings["EVENT_KIND_EXPIRED"] >= FEW / 4, "{endings:?}");
    assert!(endings["EVENT_KIND_DELIVERED"] >= FEW / 4, "{endings:?}");
    cluster.finish().await
}

/// A worker that has its windows full gives back what waits in them when the lanes move, or it would have more in hand with
/// every worker that comes and goes.
#[tokio::test]
async fn lanes_that_move_leave_no_more_in_hand_than_a_window() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.lanes = 1;
        config.nats.own_lanes = vec![own_lanes("limited", &["limited.example"], 2)];
        config.delivery.window = WINDOW;
        config.delivery.providers = vec![limited("limited", 5)];
        config.mailsim.providers = vec![provider("limited")];
    });
    let mut cluster = setup.start_with(1).await?;
    let letters = (0..2 * MANY).map(|number| bulk(&format!("customer{number}@limited.example")));
    submit_all(&cluster.api(0)?, letters, drop).await?;
    tokio::time::sleep(NOTICED).await;
    cluster.stack()?.start_worker("worker-2")?;
    cluster
        .shared_out(&["worker-1", "worker-2"], PATIENCE)
        .await?;
    tokio::time::sleep(NOTICED).await;
    cluster.take("worker-2")?.stop(PATIENCE).await?;
    cluster.shared_out(&["worker-1"], PATIENCE).await?;
    tokio::time::sleep(NOTICED).await;
    cluster.take("worker-1")?.stop(PATIENCE).await?;
    let in_hand = in_hand_at_its_end(&cluster.log("worker-1")?)?;
    println!("{in_hand} were in hand");
    assert!(in_hand <= TWO_STREAMS, "{in_hand}");
    cluster.finish().await
}

/// Waits until jobs stand in a stream of deferred jobs: of those that were never attempted, parked ones.
async fn are_parked(cluster: &Cluster, stream: &str) -> anyhow::Result<()> {
    eventually("jobs are parked", PATIENCE, async || {
        let standing = broker::messages(cluster.nats_url()?, &[stream]).await?;
        Ok((standing > 0).then_some(()))
    })
    .await
}

/// How many jobs a worker had in hand when it was told to end.
fn in_hand_at_its_end(log: &str) -> anyhow::Result<usize> {
    let line = log.lines().find(|line| line.contains("delivery draining"));
    let line: Value = serde_json::from_str(line.context("it did not drain")?)?;
    let in_hand = line["in_hand"].as_u64().context("it says how many")?;
    Ok(usize::try_from(in_hand)?)
}
