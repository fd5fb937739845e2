//! Jobs that come while others are being stored are committed in one atomic batch, and a repetition among them costs
//! none of the others (ADR 18).

use anyhow::{Context as _, bail};
use api::v1::submit_result::Outcome;
use api::v1::{SubmitBatchRequest, SubmitRequest, SubmitResponse};
use async_nats::jetstream;
use model::{Clock as _, SystemClock};
use std::time::Duration;
use tests::{Books, Cluster, PATIENCE, Setup, flush_all, keyed, letter};

use super::drained::drained;
use super::{PROGRAM, broker};

const MESSAGES: usize = 200;
const TO: &str = "ann@gmail.example";

#[tokio::test]
async fn a_batch_is_stored_in_few_commits_and_repeated_it_is_stored_once() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    submit(&cluster, 0..MESSAGES).await?;
    let (stored, commits) = committed(&cluster, "T-").await?;
    assert_eq!(stored, MESSAGES);
    assert!(commits > 0 && commits < MESSAGES / 4, "{commits} commits");

    // With its memory of keys gone, ingest publishes them all again: half of them are known to the stream by their
    // ids, and stand in one batch with those that are not.
    flush_all(&cluster.stack()?.redis().url).await?;
    submit(&cluster, MESSAGES / 2..MESSAGES * 3 / 2).await?;
    let (stored, _) = committed(&cluster, "T-").await?;
    assert_eq!(stored, MESSAGES * 3 / 2);
    cluster.finish().await
}

/// Longer than a slow machine takes to look at the schedules, and what a test has the patience for.
const AHEAD: Duration = Duration::from_secs(15);

#[tokio::test]
async fn schedules_are_stored_in_few_commits_and_each_fires_once() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).saying_anything();
    let mut cluster = setup.start_with(1).await?;
    let (api, mut books) = (cluster.api(0)?, Books::default());
    let at = SystemClock.now().checked_add(AHEAD)?;
    let later = (0..MESSAGES).map(|number| SubmitRequest {
        send_at: Some(api::timestamp_to_wire(at)),
        ..letter(&format!("ann{number}@gmail.example"))
    });
    for result in accepted(&cluster, later.collect()).await? {
        books.accepted(result);
    }
    let (stored, commits) = committed(&cluster, "DT-").await?;
    assert_eq!(stored, MESSAGES);
    assert!(commits > 0 && commits < MESSAGES / 2, "{commits} commits");
    // What was committed together survives its server as what was committed alone does.
    cluster.stack()?.nats_mut()[0].kill_and_restart().await?;
    books
        .read_until_ended(MESSAGES, &mut api.events().await?, PATIENCE)
        .await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.duplicates.len(), 0);
    drained(cluster.nats_url()?).await?;
    cluster.finish().await
}

async fn submit(cluster: &Cluster, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let messages = numbers.map(|number| keyed(TO, &format!("key-{number}")));
    accepted(cluster, messages.collect()).await.map(drop)
}

/// Submits all in one call.
async fn accepted(
    cluster: &Cluster,
    messages: Vec<SubmitRequest>,
) -> anyhow::Result<Vec<SubmitResponse>> {
    let request = SubmitBatchRequest { messages };
    let answered = cluster.api(0)?.submission().submit_batch(request).await;
    let results = answered.context("submit a batch")?.into_inner().results;
    let accepted = results.into_iter().map(|result| match result.outcome {
        Some(Outcome::Accepted(response)) => Ok(response),
        refused => bail!("not accepted: {refused:?}"),
    });
    accepted.collect()
}

/// Jobs of streams whose names begin with `kind`, and in how many atomic batches they were committed; one that was
/// published alone is no batch.
async fn committed(cluster: &Cluster, kind: &str) -> anyhow::Result<(usize, usize)> {
    let url = cluster.nats_url()?;
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    let context = jetstream::new(client);
    let mut stored = 0;
    let mut batches = std::collections::HashSet::new();
    for (name, info) in broker::streams(url).await? {
        if !name.starts_with(kind) || info.state.messages == 0 {
            continue;
        }
        let stream = context.get_stream(&name).await.context("find the stream")?;
        for sequence in info.state.first_sequence..=info.state.last_sequence {
            let job = stream.get_raw_message(sequence).await;
            let job = job.context("read a job")?;
            stored += 1;
            batches.extend(job.headers.get("Nats-Batch-Id").map(ToString::to_string));
        }
    }
    Ok((stored, batches.len()))
}
