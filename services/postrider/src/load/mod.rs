//! `postrider load`: submits messages at a rate or as fast as they are accepted, and measures.

mod mail;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::v1::submit_result::Outcome;
use api::v1::{SubmitStreamRequest, SubmitStreamResponse};
use clap::Args;
use futures_util::StreamExt as _;
use model::{ByteSize, Rate};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use self::mail::Mail;
use self::report::Report;
use crate::client::{ApiClient, Output, ServerArgs};

/// Flags of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Messages to submit.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,

    /// Streams to submit over, each a connection of its own.
    #[arg(long, default_value_t = 20)]
    streams: usize,

    /// Messages of one stream that wait for their answer at once.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,

    /// At most so many in time over all streams: "1000/s". As fast as they are accepted where it is left out.
    #[arg(long)]
    rate: Option<Rate>,

    /// Octets of a message.
    #[arg(long, default_value = "10KiB")]
    size: ByteSize,

    /// Where they go, and how many of all: "gmail.example=3"; repeat it for more.
    #[arg(long, value_name = "DOMAIN[=WEIGHT]", default_value = "gmail.example")]
    to: Vec<String>,

    /// How to print the result.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// Submits, and prints how fast and how soon. Exit code 0 only if every message was accepted.
pub async fn run(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    if args.streams == 0 || args.in_flight == 0 {
        bail!("--streams and --in-flight must be at least 1");
    }
    let mail = Mail::new(args.size, &args.to)?;
    let (answers, mut answered) = mpsc::channel(1024);
    let submit = (0..args.streams).map(|stream| one_stream(args, &mail, stream, answers.clone()));
    let submit = futures_util::future::try_join_all(submit);
    drop(answers);

    let mut report = Report::new(args.messages, args.output);
    let count = async {
        while let Some(answer) = answered.recv().await {
            report.count(answer);
        }
    };
    let (submitted, ()) = tokio::join!(submit, count);
    submitted?;
    Ok(report.finish())
}

/// How one message was answered, and after how long.
#[derive(Debug)]
pub(crate) struct Answer {
    took: Duration,
    refused: Option<String>,
}

/// Every `streams`-th message, over a connection of its own.
async fn one_stream(
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
                    refused: refusal(response),
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

/// Ticks at one stream's part of the rate.
fn pace(rate: Rate, streams: usize) -> tokio::time::Interval {
    let parts = u32::try_from(streams).unwrap_or(u32::MAX);
    let mut ticks = tokio::time::interval(rate.divided_by(parts).interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

fn refusal(response: SubmitStreamResponse) -> Option<String> {
    match response.result.and_then(|result| result.outcome) {
        Some(Outcome::Accepted(_)) => None,
        Some(Outcome::Refused(error)) => Some(error.detail),
        None => Some("an answer without a result".to_owned()),
    }
}
