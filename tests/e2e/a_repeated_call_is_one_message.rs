//! A call that is repeated under its idempotency key is the same message: the same ids, and one copy in the mailbox.

use api::v1::{SubmitRequest, SubmitResponse};
use futures_util::future::try_join_all;
use mailsim::ledger::Outcome;
use tests::{Cluster, Setup, flush_all, keyed};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::PROGRAM;
use super::drained::drained;

const KEY: &str = "receipt/order-4711";
const RECIPIENT: &str = "ann@gmail.example";

#[tokio::test]
async fn a_repeated_call_is_answered_with_the_same_ids_and_sent_once() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let mut request = keyed(RECIPIENT, KEY);
    request.recipients.push("bob@gmail.example".into());
    let first = api.submit(request.clone()).await?;
    let again = api.submit(request.clone()).await?;
    assert!(!first.replayed && again.replayed, "{first:?}, {again:?}");
    assert_eq!(first.message_id, again.message_id);
    assert_eq!(first.recipients, again.recipients);

    drained(cluster.nats_url()?).await?;
    let after_delivery = api.submit(request).await?;
    assert_eq!(after_delivery, again);
    let expected = [RECIPIENT, "bob@gmail.example"];
    assert_eq!(arrived(&cluster).await?, expected);
    cluster.finish().await
}

#[tokio::test]
async fn a_key_that_was_used_for_another_message_is_refused() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    api.submit(keyed(RECIPIENT, KEY)).await?;
    let mut changed = keyed(RECIPIENT, KEY);
    changed.tags.insert("order".into(), "4712".into());
    for other in [keyed("bob@gmail.example", KEY), changed] {
        let refused = api.submit(other).await.expect_err("a key was used twice");
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
        let reason = refused.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("IDEMPOTENCY_KEY_REUSED"));
    }
    assert!(api.submit(keyed(RECIPIENT, KEY)).await?.replayed);
    assert_eq!(arrived(&cluster).await?, [RECIPIENT]);
    cluster.finish().await
}

#[tokio::test]
async fn twenty_calls_at_once_are_one_message() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let calls = (0..20).map(|_| api.submit(keyed(RECIPIENT, KEY)));
    let answers = try_join_all(calls).await?;
    for answer in &answers {
        assert_eq!(ids(answer), ids(&answers[0]));
    }
    assert_eq!(arrived(&cluster).await?, [RECIPIENT]);
    cluster.finish().await
}

#[tokio::test]
async fn a_redis_that_forgot_the_key_does_not_make_it_two() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let first = api.submit(keyed(RECIPIENT, KEY)).await?;
    drained(cluster.nats_url()?).await?;
    flush_all(&cluster.stack()?.redis().url).await?;
    let again = api.submit(keyed(RECIPIENT, KEY)).await?;
    assert!(!again.replayed, "Redis did not forget");
    assert_eq!(ids(&first), ids(&again));
    assert_eq!(arrived(&cluster).await?, [RECIPIENT]);
    cluster.finish().await
}

#[tokio::test]
async fn tenants_do_not_share_keys() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).tenant("globex").start_with(1).await?;
    let acme = cluster.api(0)?.submit(keyed(RECIPIENT, KEY)).await?;
    let other = SubmitRequest {
        campaign: "another".into(),
        ..keyed(RECIPIENT, KEY)
    };
    let globex = cluster.api(1)?.submit(other).await?;
    assert_ne!(acme.message_id, globex.message_id);
    assert_ne!(acme.recipients[0].job_id, globex.recipients[0].job_id);
    assert_eq!(arrived(&cluster).await?, [RECIPIENT, RECIPIENT]);
    cluster.finish().await
}

/// Who has mail once the queue is empty, once for each copy.
async fn arrived(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    drained(cluster.nats_url()?).await?;
    let ledger = cluster.ledger()?.into_iter();
    let taken = ledger.filter(|entry| entry.outcome == Outcome::Accepted);
    let mut recipients: Vec<String> = taken.map(|entry| entry.recipient).collect();
    recipients.sort();
    Ok(recipients)
}

fn ids(answer: &SubmitResponse) -> (&str, &str) {
    (&answer.message_id, &answer.recipients[0].job_id)
}
