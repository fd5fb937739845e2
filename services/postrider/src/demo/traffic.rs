//! The mail of the demo: receipts and newsletters of several senders.

use anyhow::Context as _;
use api::v1::submit_request::Content;
use api::v1::{Class, MessageParts, SubmitRequest};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::Sender;

use super::world::NEIGHBOURS;
use crate::client::ApiClient;

/// Calls in flight at once.
const IN_FLIGHT: usize = 64;

/// One accepted job.
#[derive(Debug)]
pub(crate) struct AcceptedJob {
    pub(crate) message_id: String,
    pub(crate) job_id: String,
    pub(crate) recipient: String,
}

/// Submits `count` messages over the clients in turn, and tells each that was accepted.
pub(crate) async fn submit(
    clients: Vec<ApiClient>,
    count: usize,
    accepted: Sender<anyhow::Result<AcceptedJob>>,
) {
    let calls = (0..count).map(|number| submit_one(&clients[number % clients.len()], number));
    let mut calls = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(IN_FLIGHT);
    while let Some(job) = calls.next().await {
        if accepted.send(job).await.is_err() {
            return;
        }
    }
}

async fn submit_one(client: &ApiClient, number: usize) -> anyhow::Result<AcceptedJob> {
    let response = client
        .submission()
        .submit(request(number))
        .await
        .context("submit")?
        .into_inner();
    let recipient = response
        .recipients
        .into_iter()
        .next()
        .context("the answer names no recipient")?;
    Ok(AcceptedJob {
        message_id: response.message_id,
        job_id: recipient.job_id,
        recipient: recipient.recipient,
    })
}

fn request(number: usize) -> SubmitRequest {
    let recipient = format!("customer{number}@{}", domain(number));
    if number.is_multiple_of(3) {
        newsletter(number, recipient)
    } else {
        receipt(number, recipient)
    }
}

fn receipt(number: usize, recipient: String) -> SubmitRequest {
    let amount = format!("{}.{:02} EUR", 5 + number % 90, number % 100);
    message(
        Class::Transactional,
        recipient,
        MessageParts {
            from: "Acme Shop <orders@shop.acme.example>".into(),
            reply_to: "help@shop.acme.example".into(),
            subject: format!("Your receipt for order {number}"),
            text: format!("Thank you for your order {number}.\n\nTotal: {amount}\n"),
            html: format!("<h1>Thank you</h1><p>Order {number}, total <b>{amount}</b>.</p>"),
            ..MessageParts::default()
        },
    )
}

fn newsletter(number: usize, recipient: String) -> SubmitRequest {
    let story = "The quick brown fox tells its story to everyone who subscribed to hear it. ";
    message(
        Class::Bulk,
        recipient,
        MessageParts {
            from: "Globex News <news@globex.example>".into(),
            subject: "What happened this week – and what is coming".into(),
            text: story.repeat(20),
            html: format!(
                "<h1>This week</h1><p>{}</p><p>Issue {number}</p>",
                story.repeat(30)
            ),
            ..MessageParts::default()
        },
    )
}

fn message(class: Class, recipient: String, parts: MessageParts) -> SubmitRequest {
    SubmitRequest {
        class: class.into(),
        recipients: vec![recipient],
        content: Some(Content::Parts(parts)),
        campaign: "demo".into(),
        ..SubmitRequest::default()
    }
}

/// The neighbour of message number `number`, mixed so that every stretch of messages goes to all of them.
fn domain(number: usize) -> &'static str {
    // 37 has no factor in common with 100, so any hundred messages in a row hit every percentile once.
    let mut percentile = number * 37 % 100;
    for neighbour in &NEIGHBOURS {
        if percentile < neighbour.percent {
            return neighbour.domain;
        }
        percentile -= neighbour.percent;
    }
    NEIGHBOURS[0].domain
}
