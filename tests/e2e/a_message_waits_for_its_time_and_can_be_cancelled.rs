//! A message is not sent before its time, and not at all once it was cancelled.

use std::time::Duration;

use anyhow::Context as _;
use api::v1::{CancelRequest, CancelResponse, EventKind, SubmitRequest, SubmitResponse};
use jiff::{SignedDuration, Timestamp};
use model::{Clock as _, SystemClock};
use tests::{Api, Books, Cluster, PATIENCE, Setup, eventually, letter};
use tonic::{Code, Status};

use super::PROGRAM;
use super::drained::drained;

const AHEAD: SignedDuration = SignedDuration::from_secs(3);
/// So far ahead that nothing of this test could outlast it.
const FAR_AHEAD: SignedDuration = SignedDuration::from_hours(1);
/// How long a cancellation may take.
const MOMENTS: Duration = Duration::from_secs(5);
const SCHEDULED: usize = 50;

#[tokio::test]
async fn a_message_is_delivered_at_its_time_and_not_before() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let send_at = after(AHEAD)?;
    let mut books = Books::default();
    books.accepted(api.submit(scheduled("ann@gmail.example", send_at)).await?);
    books.accepted(api.submit(letter("bob@gmail.example")).await?);
    books
        .read_until_ended(2, &mut api.events().await?, PATIENCE)
        .await?;
    let ledger = cluster.ledger()?;
    let [bob, ann] = &ledger[..] else {
        panic!("not two copies: {ledger:?}");
    };
    assert_eq!(bob.recipient, "bob@gmail.example");
    assert!(bob.time < send_at, "{bob:?} waited for another's time");
    assert!(ann.time >= send_at, "{ann:?} came before {send_at}");
    let reconciled = books.reconcile(ledger);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    cluster.finish().await
}

#[tokio::test]
async fn a_time_more_than_30_days_ahead_is_refused() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    let day = SignedDuration::from_hours(24);
    let request = |days| anyhow::Ok(scheduled("ann@gmail.example", after(day * days)?));
    api.submit(request(29)?).await?;
    let refused = api.submit(request(31)?).await;
    let refused = refused.err().context("31 days ahead was accepted")?;
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("send_at: "), "{refused:?}");
    cluster.finish().await
}

#[tokio::test]
async fn what_waits_for_its_time_is_cancelled_at_once_and_never_sent() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let send_at = after(FAR_AHEAD)?;
    let mut books = Books::default();
    for number in 0..SCHEDULED {
        let recipient = format!("customer{number}@gmail.example");
        let sent = api.submit(scheduled(&recipient, send_at)).await?;
        let job = sent.recipients[0].job_id.clone();
        let answer = cancel_known(&api, &sent.message_id).await?;
        assert_eq!(answer.cancelling_job_ids, [job]);
        books.accepted(sent);
    }
    books
        .read_until_ended(SCHEDULED, &mut api.events().await?, MOMENTS)
        .await?;
    assert_cancelled(&cluster, &books, SCHEDULED).await?;
    cluster.finish().await
}

#[tokio::test]
async fn what_was_deferred_is_cancelled_at_once() -> anyhow::Result<()> {
    let setup =
        Setup::new(PROGRAM).configured(|config| config.delivery.retry_delays = vec!["1h".into()]);
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    let sent = api.submit(letter("defer@gmail.example")).await?;
    eventually("it is deferred", PATIENCE, async || {
        Ok(has(&api, &sent, EventKind::Deferred).await.then_some(()))
    })
    .await?;
    let job = sent.recipients[0].job_id.clone();
    books.accepted(sent);
    assert_eq!(cancel(&api, &job).await?.cancelling_job_ids, [job]);
    books
        .read_until_ended(1, &mut api.events().await?, MOMENTS)
        .await?;
    assert_cancelled(&cluster, &books, 1).await?;
    cluster.finish().await
}

#[tokio::test]
async fn what_has_ended_is_not_cancelled() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let sent = api.submit(letter("ann@gmail.example")).await?;
    eventually("it is delivered", PATIENCE, async || {
        Ok(has(&api, &sent, EventKind::Delivered).await.then_some(()))
    })
    .await?;
    let answer = cancel(&api, &sent.message_id).await?;
    let ended = CancelResponse {
        cancelling_job_ids: vec![],
        ended_job_ids: vec![sent.recipients[0].job_id.clone()],
    };
    assert_eq!(answer, ended);
    cluster.finish().await
}

#[tokio::test]
async fn another_tenant_cancels_nothing() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).tenant("globex").start_with(1).await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    let send_at = after(AHEAD)?;
    let sent = acme.submit(scheduled("ann@gmail.example", send_at)).await?;
    eventually("its own tenant finds it", PATIENCE, async || {
        Ok(acme.get(&sent.message_id).await.ok())
    })
    .await?;
    for id in [&sent.message_id, &sent.recipients[0].job_id] {
        let refused = cancel(&globex, id).await.err().map(|status| status.code());
        assert_eq!(refused, Some(Code::NotFound), "{id}");
    }
    let mut books = Books::default();
    books.accepted(sent);
    books
        .read_until_ended(1, &mut acme.events().await?, PATIENCE)
        .await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", 1)].into());
    cluster.finish().await
}

/// Everything ended as cancelled, nothing is left in the queue, and nobody got anything.
async fn assert_cancelled(cluster: &Cluster, books: &Books, count: usize) -> anyhow::Result<()> {
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_CANCELLED", count)].into());
    Ok(())
}

async fn cancel(api: &Api, id: &str) -> Result<CancelResponse, Status> {
    let request = CancelRequest { id: id.to_owned() };
    let answered = api.messages().cancel(request).await;
    answered.map(tonic::Response::into_inner)
}

/// Cancels what was accepted a moment ago, and so may not be known yet.
async fn cancel_known(api: &Api, id: &str) -> anyhow::Result<CancelResponse> {
    eventually("it is known", PATIENCE, async || {
        match cancel(api, id).await {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    })
    .await
}

/// Whether an event of this kind is known of a message.
async fn has(api: &Api, sent: &SubmitResponse, kind: EventKind) -> bool {
    let found = api.get(&sent.message_id).await;
    let mut jobs = found
        .map_or_else(|_| Vec::new(), |found| found.jobs)
        .into_iter();
    jobs.any(|job| job.events.iter().any(|event| event.kind() == kind))
}

fn scheduled(to: &str, send_at: Timestamp) -> SubmitRequest {
    SubmitRequest {
        send_at: Some(api::timestamp_to_wire(send_at)),
        ..letter(to)
    }
}

fn after(pause: SignedDuration) -> anyhow::Result<Timestamp> {
    Ok(SystemClock.now().checked_add(pause)?)
}
