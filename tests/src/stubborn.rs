//! A client as the API asks for one: what was not answered it sends again, under the same idempotency key.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::{SubmitRequest, SubmitResponse};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{Api, PATIENCE, letter};

/// Calls in flight at once.
const IN_FLIGHT: usize = 32;
/// How long one call may take before the client gives it up and makes another.
const CALL: Duration = Duration::from_secs(10);
/// Between one call and the next.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// A letter with an idempotency key.
pub fn keyed(to: &str, key: &str) -> SubmitRequest {
    SubmitRequest {
        idempotency_key: key.into(),
        ..letter(to)
    }
}

/// What a stubborn client was answered in the end.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub response: SubmitResponse,
    /// How many calls it took.
    pub calls: usize,
}

/// Submits all of `requests`, some at a time and each until it is accepted, and tells `answered` of each.
pub async fn submit_stubbornly(
    api: &Api,
    requests: impl IntoIterator<Item = SubmitRequest>,
    mut answered: impl FnMut(Answered),
) -> anyhow::Result<()> {
    let calls = requests
        .into_iter()
        .map(|request| until_accepted(api, request));
    let mut answers = stream::iter(calls).buffer_unordered(IN_FLIGHT);
    while let Some(answer) = answers.try_next().await? {
        answered(answer);
    }
    Ok(())
}

async fn until_accepted(api: &Api, request: SubmitRequest) -> anyhow::Result<Answered> {
    let deadline = Instant::now() + PATIENCE;
    for calls in 1.. {
        let refused = match tokio::time::timeout(CALL, api.submit(request.clone())).await {
            Ok(Ok(response)) => return Ok(Answered { response, calls }),
            Ok(Err(refused)) => refused,
            Err(_) => Status::deadline_exceeded("no answer"),
        };
        if !is_worth_another_call(&refused) || Instant::now() > deadline {
            return Err(refused).with_context(|| format!("submit, call {calls}"));
        }
        ensure!(
            !request.idempotency_key.is_empty(),
            "a call without a key cannot be repeated"
        );
        tokio::time::sleep(PAUSE).await;
    }
    unreachable!("the loop above ends by returning")
}

/// Whether the server was away, was killed in the middle of the call or asked to be called later.
pub(crate) fn is_worth_another_call(refused: &Status) -> bool {
    matches!(
        refused.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
    )
}
