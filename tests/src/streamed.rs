//! A client that streams: what was not answered when a stream ended it sends again through another one, under the same
//! idempotency keys.

use std::collections::BTreeMap;

use anyhow::ensure;
use api::v1::submit_result::Outcome;
use api::v1::{SubmitRequest, SubmitResponse, SubmitStreamRequest};
use futures_util::stream;
use tokio::time::Instant;
use tonic::Status;

use crate::stubborn::{PAUSE, is_worth_another_call};
use crate::{Api, PATIENCE};

/// What was not answered yet, by reference.
type Open = BTreeMap<String, SubmitRequest>;

/// Submits all of `requests`, tells `accepted` of each answer, and says how many streams that took.
pub async fn stream_stubbornly(
    api: &Api,
    requests: impl IntoIterator<Item = SubmitRequest>,
    mut accepted: impl FnMut(SubmitResponse),
) -> anyhow::Result<usize> {
    let named = |request: SubmitRequest| (request.idempotency_key.clone(), request);
    let mut open: Open = requests.into_iter().map(named).collect();
    let (mut streams, mut heard) = (0, Instant::now());
    while !open.is_empty() {
        streams += 1;
        let before = open.len();
        if let Err(ended) = stream_once(api, &mut open, &mut accepted).await {
            ensure!(is_worth_another_call(&ended), "stream {streams}: {ended}");
        }
        if open.len() < before {
            heard = Instant::now();
        }
        ensure!(
            heard.elapsed() < PATIENCE,
            "{} messages unanswered",
            open.len()
        );
        tokio::time::sleep(PAUSE).await;
    }
    Ok(streams)
}

/// One stream with all that is open, until it ends.
async fn stream_once(
    api: &Api,
    open: &mut Open,
    accepted: &mut impl FnMut(SubmitResponse),
) -> Result<(), Status> {
    let requests: Vec<SubmitStreamRequest> = open
        .iter()
        .map(|(reference, message)| SubmitStreamRequest {
            reference: reference.clone(),
            message: Some(message.clone()),
        })
        .collect();
    let mut submission = api.submission();
    let answers = submission.submit_stream(stream::iter(requests)).await?;
    let mut answers = answers.into_inner();
    while let Some(answer) = answers.message().await? {
        // What is refused for now stays open; what can never be accepted is not submitted by tests.
        if let Some(Outcome::Accepted(response)) = answer.result.and_then(|result| result.outcome) {
            open.remove(&answer.reference);
            accepted(response);
        }
    }
    Ok(())
}
