//! A big provider's mail has lanes of its own (ADR 26): it stands in these and in no others, ready or deferred, and every worker
//! sends some of it. Mail from before the provider had any is not forgotten, nor is what stands there when they are taken away.

use std::time::Duration;

use api::v1::{CancelRequest, EventKind, SubmitRequest, SubmitResponse};
use jiff::SignedDuration;
use model::{Clock as _, SystemClock};
use postrider::local::Service;
use tests::{Api, Books, PATIENCE, Setup, bulk, eventually, letter, own_lanes, submit_all};
use tonic::Code;

use super::PROGRAM;
use super::drained::{drained, jobs};

const FEW: usize = 40;
/// How long a cancellation may take.
const MOMENTS: Duration = Duration::from_secs(5);
/// So far ahead that nothing of this test could outlast it.
const FAR_AHEAD: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test]
async fn its_mail_stands_in_its_own_lanes_and_every_worker_sends_some() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.own_lanes = vec![own_lanes("gmail", &["gmail.example"], 2)];
    });
    let mut cluster = setup.start_with(0).await?;
    let (api, mut books) = (cluster.api(0)?, Books::default());
    let recipient = |number| format!("customer{number}@gmail.example");
    let urgent = (0..FEW).map(|number| letter(&recipient(number)));
    let campaign = (FEW..2 * FEW).map(|number| bulk(&recipient(number)));
    submit_all(&api, urgent.chain(campaign), |answer| {
        books.accepted(answer)
    })
    .await?;
    let waiting = jobs(cluster.nats_url()?).await?;
    assert_eq!(waiting.values().sum::<u64>() as usize, 2 * FEW);
    let streams: Vec<&str> = waiting.keys().map(String::as_str).collect();
    let own = [
        "B-default-gmail-0",
        "B-default-gmail-1",
        "T-default-gmail-0",
        "T-default-gmail-1",
    ];
    assert_eq!(streams, own, "{waiting:?}");

    let workers = ["worker-1", "worker-2"];
    for worker in workers {
        cluster.stack()?.start_worker(worker)?;
    }
    cluster.shared_out(&workers, PATIENCE).await?;
    for worker in workers {
        let lanes = cluster.leased(worker)?;
        let own = lanes.iter().filter(|lane| lane.starts_with("gmail-"));
        assert_eq!(own.count(), 1, "{worker} has {lanes:?}");
    }
    books
        .read_until_ended(2 * FEW, &mut api.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    let expected = [("EVENT_KIND_DELIVERED", 2 * FEW)];
    assert_eq!(reconciled.endings, expected.into());
    cluster.finish().await
}

#[tokio::test]
async fn what_is_deferred_waits_in_its_own_lanes_too_and_is_found_there() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.own_lanes = vec![own_lanes("gmail", &["gmail.example"], 2)];
        config.delivery.retry_delays = vec!["1h".into()];
    });
    let cluster = setup.start_with(1).await?;
    let (api, mut books) = (cluster.api(0)?, Books::default());
    let mut sent = Vec::new();
    let letters = (0..FEW).map(|number| letter(&format!("defer+{number}@gmail.example")));
    submit_all(&api, letters, |answer| sent.push(answer)).await?;
    for sent in &sent {
        has(&api, sent, EventKind::Deferred, PATIENCE).await?;
    }
    let waiting = jobs(cluster.nats_url()?).await?;
    let streams: Vec<&str> = waiting.keys().map(String::as_str).collect();
    assert_eq!(
        streams,
        ["DT-default-gmail-0", "DT-default-gmail-1"],
        "{waiting:?}"
    );

    for sent in sent {
        cancel(&api, &sent).await?;
        books.accepted(sent);
    }
    books
        .read_until_ended(FEW, &mut api.events().await?, MOMENTS)
        .await?;
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_CANCELLED", FEW)].into());
    cluster.finish().await
}

/// What was deferred is delivered, and what waits for its time is cancelled at once, although both stand in the lane that
/// their domain had.
#[tokio::test]
async fn mail_from_before_it_had_any_is_delivered_and_found() -> anyhow::Result<()> {
    let setup =
        Setup::new(PROGRAM).configured(|config| config.delivery.retry_delays = vec!["15s".into()]);
    let mut cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let mut sent = Vec::new();
    let letters = (0..FEW).map(|number| letter(&format!("greylist+{number}@gmail.example")));
    submit_all(&api, letters, |answer| sent.push(answer)).await?;
    for sent in &sent {
        has(&api, sent, EventKind::Deferred, PATIENCE).await?;
    }
    let planned = api.submit(far_ahead("ann@gmail.example")?).await?;
    let waiting = jobs(cluster.nats_url()?).await?;
    let is_hashed = |stream: &String| stream.starts_with("DT-default-h");
    assert!(waiting.keys().all(is_hashed), "{waiting:?}");

    for service in ["worker-1", "ingest"] {
        cluster.take(service)?.stop(PATIENCE).await?;
    }
    cluster.reconfigure(|config| {
        config.nats.own_lanes = vec![own_lanes("gmail", &["gmail.example"], 2)];
    })?;
    cluster.start_service(&Service::new("ingest-again", "ingest"))?;
    cluster.logged("ingest-again", "ingest listening").await?;
    cluster.stack()?.start_worker("worker-2")?;
    cluster.shared_out(&["worker-2"], PATIENCE).await?;

    let (api, mut books) = (cluster.api(0)?, Books::default());
    cancel(&api, &planned).await?;
    has(&api, &planned, EventKind::Cancelled, MOMENTS).await?;
    sent.push(planned);
    sent.into_iter().for_each(|sent| books.accepted(sent));
    books
        .read_until_ended(FEW + 1, &mut api.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    let expected = [("EVENT_KIND_CANCELLED", 1), ("EVENT_KIND_DELIVERED", FEW)];
    assert_eq!(reconciled.endings, expected.into());
    cluster.finish().await
}

#[tokio::test]
async fn its_lanes_cannot_be_configured_away_while_they_hold_mail() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .allowing("error: prepare the queue")
        .configured(|config| {
            config.nats.own_lanes = vec![own_lanes("gmail", &["gmail.example"], 1)];
        });
    let mut cluster = setup.start_with(0).await?;
    cluster.api(0)?.submit(letter("ann@gmail.example")).await?;
    cluster.take("ingest")?.stop(PATIENCE).await?;
    cluster.reconfigure(|config| config.nats.own_lanes.clear())?;
    cluster.stack()?.start_worker("worker-1")?;
    assert_eq!(cluster.ends("worker-1").await?, Some(1));
    let log = cluster.log("worker-1")?;
    assert!(
        log.contains("stream T-default-gmail-0 holds 1 messages") && log.contains("nats.own_lanes"),
        "{log}"
    );
    cluster.finish().await
}

/// A letter for a time that does not come.
fn far_ahead(to: &str) -> anyhow::Result<SubmitRequest> {
    let send_at = SystemClock.now().checked_add(FAR_AHEAD)?;
    Ok(SubmitRequest {
        send_at: Some(api::timestamp_to_wire(send_at)),
        ..letter(to)
    })
}

/// Cancels a message, once it is known.
async fn cancel(api: &Api, sent: &SubmitResponse) -> anyhow::Result<()> {
    eventually("it is known", PATIENCE, async || {
        let id = sent.message_id.clone();
        match api.messages().cancel(CancelRequest { id }).await {
            Ok(_) => Ok(Some(())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    })
    .await
}

/// Waits until an event of this kind is known of a message.
async fn has(
    api: &Api,
    sent: &SubmitResponse,
    kind: EventKind,
    patience: Duration,
) -> anyhow::Result<()> {
    eventually(&format!("it is {kind:?}"), patience, async || {
        let Ok(found) = api.get(&sent.message_id).await else {
            return Ok(None);
        };
        let mut events = found.jobs.into_iter().flat_map(|job| job.events);
        Ok(events.any(|event| event.kind() == kind).then_some(()))
    })
    .await
}
