//! Submits by `SubmitStream`: one message after the other, many unanswered at once.

use std::time::Duration;

use anyhow::{Context as _, bail};
use api::v1::SubmitStreamRequest;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::mail::Mail;
use super::{Answer, LoadArgs, pace, refusal};
use crate::client::ApiClient;

/// Every `streams`-th message, over a connection of its own.
pub(super) async fn submit(
    args: &LoadArgs,
    mail: &Mail,
    stream: usize,
    answers: mpsc::Sender<Answer>,
) -> anyhow::Result<()> {
    let numbers: Vec<usize> = (stream..args.messages).step_by(args.streams).collect();
    let (requests, outgoing) = mpsc::channel::<SubmitStreamRequest>(1);
    let client = ApiClient::new(&args.server)?;
    let mut submission = client.submission();
    let incoming = submission.submit_stream(ReceiverStream::new(outgoing));
    let window = tokio::sync::Semaphore::new(args.in_flight);
    let sent = std::sync::Mutex::new(std::collections::HashMap::new());
    let lock = || {
        sent.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };

    let send = async {
        let mut pace = args.rate.map(|rate| pace(rate, args.streams));
        for number in &numbers {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            window
                .acquire()
                .await
                .context("wait for the window")?
                .forget();
            lock().insert(number.to_string(), Instant::now());
            let message = mail.message(*number);
            let request = SubmitStreamRequest {
                reference: number.to_string(),
                message: Some(message),
            };
            requests
                .send(request)
                .await
                .context("the server ended the stream")?;
        }
        drop(requests);
        anyhow::Ok(())
    };
    let receive = async {
        let mut responses = incoming.await.context("open a stream")?.into_inner();
        let mut missing = numbers.len();
        while let Some(response) = responses.next().await {
            let response = response.context("read an answer")?;
            let began = lock().remove(&response.reference);
            window.add_permits(1);
            missing -= 1;
            let took = began.map_or(Duration::ZERO, |began| began.elapsed());
            answers
                .send(Answer {
                    took,
                    refused: refusal(response.result),
                })
                .await
                .context("count an answer")?;
        }
        if missing > 0 {
            bail!("the server ended a stream with {missing} messages unanswered");
        }
        anyhow::Ok(())
    };
    tokio::try_join!(send, receive).map(drop)
}
