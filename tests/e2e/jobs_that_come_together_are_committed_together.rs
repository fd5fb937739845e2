//! Jobs that come while others are being stored are committed in one atomic batch, and a repetition among them costs
//! none of the others (ADR 18).

use anyhow::Context as _;
use api::v1::SubmitBatchRequest;
use api::v1::submit_result::Outcome;
use async_nats::jetstream;
use tests::{Cluster, Setup, flush_all, keyed};

use super::PROGRAM;
use super::broker;

const MESSAGES: usize = 200;
const TO: &str = "ann@gmail.example";

#[tokio::test]
async fn a_batch_is_stored_in_few_commits_and_repeated_it_is_stored_once() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    submit(&cluster, 0..MESSAGES).await?;
    let (stored, commits) = committed(&cluster).await?;
    assert_eq!(stored, MESSAGES);
    assert!(commits > 0 && commits < MESSAGES / 4, "{commits} commits");

    // With its memory of keys gone, ingest publishes them all again: half of them are known to the stream by their
    // ids, and stand in one batch with those that are not.
    flush_all(&cluster.stack()?.redis().url).await?;
    submit(&cluster, MESSAGES / 2..MESSAGES * 3 / 2).await?;
    let (stored, _) = committed(&cluster).await?;
    assert_eq!(stored, MESSAGES * 3 / 2);
    cluster.finish().await
}

async fn submit(cluster: &Cluster, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let messages = numbers.map(|number| keyed(TO, &format!("key-{number}")));
    let request = SubmitBatchRequest {
        messages: messages.collect(),
    };
    let answered = cluster.api(0)?.submission().submit_batch(request).await;
    for result in answered.context("submit a batch")?.into_inner().results {
        assert!(
            matches!(result.outcome, Some(Outcome::Accepted(_))),
            "{:?}",
            result.outcome
        );
    }
    Ok(())
}

/// Ready jobs, and in how many atomic batches they were committed; one that was published alone is no batch.
async fn committed(cluster: &Cluster) -> anyhow::Result<(usize, usize)> {
    let url = cluster.nats_url()?;
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    let context = jetstream::new(client);
    let mut stored = 0;
    let mut batches = std::collections::HashSet::new();
    for (name, info) in broker::streams(url).await? {
        if !name.starts_with("T-") || info.state.messages == 0 {
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
