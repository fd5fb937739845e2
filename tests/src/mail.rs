//! Mail to send.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::v1::submit_request::Content;
use api::v1::submit_result::Outcome;
use api::v1::{
    Class, Event, EventKind, MessageParts, SubmitBatchRequest, SubmitRequest, SubmitResponse,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rand::RngExt as _;
use tokio::time::{Instant, timeout_at};

use crate::Api;

/// Calls in flight at once.
const IN_FLIGHT: usize = 32;
/// Messages in one batch.
const BATCH: usize = 500;

const LINE: usize = 70;

/// A letter to one recipient.
pub fn letter(to: &str) -> SubmitRequest {
    letter_to(&[to])
}

/// The same, and nobody waits for it.
pub fn bulk(to: &str) -> SubmitRequest {
    SubmitRequest {
        class: Class::Bulk.into(),
        ..letter(to)
    }
}

/// A letter of at least `size` octets, which no packing makes fewer.
pub fn letter_of(size: usize, to: &str) -> SubmitRequest {
    let mut request = letter(to);
    if let Some(Content::Parts(parts)) = &mut request.content {
        let mut random = rand::rng();
        let mut line = || -> String {
            let letters = (0..LINE).map(|_| char::from(random.random_range(b'!'..=b'~')));
            letters.chain(['\n']).collect()
        };
        parts.text = (0..size.div_ceil(LINE)).map(|_| line()).collect();
    }
    request
}

/// A letter to several recipients.
pub fn letter_to(recipients: &[&str]) -> SubmitRequest {
    SubmitRequest {
        class: Class::Transactional.into(),
        recipients: recipients.iter().map(ToString::to_string).collect(),
        content: Some(Content::Parts(MessageParts {
            from: "Acme Shop <orders@acme.example>".into(),
            subject: "Your receipt".into(),
            text: "Thank you for your order.\n".into(),
            html: "<p>Thank you for your order.</p>".into(),
            ..MessageParts::default()
        })),
        ..SubmitRequest::default()
    }
}

/// Submits all of `requests`, some at a time, and tells `accepted` of each answer.
pub async fn submit_all(
    api: &Api,
    requests: impl IntoIterator<Item = SubmitRequest>,
    mut accepted: impl FnMut(SubmitResponse),
) -> anyhow::Result<()> {
    let calls = requests.into_iter().map(|request| api.submit(request));
    let mut answers = stream::iter(calls).buffer_unordered(IN_FLIGHT);
    while let Some(answer) = answers.try_next().await.context("submit")? {
        accepted(answer);
    }
    Ok(())
}

/// A message as `content` has it, to one recipient.
pub fn raw(to: &str, content: Vec<u8>) -> SubmitRequest {
    SubmitRequest {
        content: Some(Content::Raw(content.into())),
        ..letter(to)
    }
}

/// Submits all of `requests` in batches, waits until each has come to its end, and answers what happened, by recipient.
pub async fn deliver_all(
    api: &Api,
    requests: Vec<SubmitRequest>,
    patience: Duration,
) -> anyhow::Result<BTreeMap<String, EventKind>> {
    let count = requests
        .iter()
        .map(|request| request.recipients.len())
        .sum();
    let mut left = requests.into_iter().peekable();
    while left.peek().is_some() {
        let messages = left.by_ref().take(BATCH).collect();
        let batch = SubmitBatchRequest { messages };
        let answer = api.submission().submit_batch(batch).await?.into_inner();
        for result in answer.results {
            if let Some(Outcome::Refused(error)) = result.outcome {
                bail!("refused: {error:?}");
            }
        }
    }
    let mut events = api.events().await?;
    let deadline = Instant::now() + patience;
    let mut ended = BTreeMap::new();
    while ended.len() < count {
        let next = timeout_at(deadline, events.next()).await;
        let next = next.with_context(|| format!("{} of {count} ended", ended.len()))?;
        let event = next.context("the server ended the watch")??;
        match event.kind() {
            EventKind::Unspecified | EventKind::Accepted | EventKind::Deferred => {}
            kind => {
                ended.insert(event.recipient, kind);
            }
        }
    }
    Ok(ended)
}

/// Submits `requests` and answers what the first attempt for each of their recipients came to, by recipient.
pub async fn first_attempts(
    api: &Api,
    requests: Vec<SubmitRequest>,
    patience: Duration,
) -> anyhow::Result<BTreeMap<String, Event>> {
    let count = requests
        .iter()
        .map(|request| request.recipients.len())
        .sum();
    submit_all(api, requests, |_| ()).await?;
    let mut events = api.events().await?;
    let deadline = Instant::now() + patience;
    let mut first = BTreeMap::new();
    while first.len() < count {
        let next = timeout_at(deadline, events.next()).await;
        let next = next.with_context(|| format!("so far: {:?}", first.keys()))?;
        let event: Event = next.context("the server ended the watch")??;
        if event.kind() != EventKind::Accepted {
            first.entry(event.recipient.clone()).or_insert(event);
        }
    }
    Ok(first)
}
