//! Mail to send.

use anyhow::Context as _;
use api::v1::submit_request::Content;
use api::v1::{Class, MessageParts, SubmitRequest, SubmitResponse};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::Api;

/// Calls in flight at once.
const IN_FLIGHT: usize = 32;

/// A letter to one recipient.
pub fn letter(to: &str) -> SubmitRequest {
    letter_to(&[to])
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
