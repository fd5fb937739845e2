//! `postrider load`: submits messages at a rate or as fast as they are accepted, and measures.

mod batch;
mod mail;
mod report;
mod streamed;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::v1::submit_result::Outcome;
use api::v1::{Class, SubmitResult};
use clap::{Args, ValueEnum};
use futures_util::future::try_join_all;
use model::{ByteSize, Clock as _, Rate, SystemClock, parse_duration};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::mail::{Mail, Plan};
use self::report::Report;
use crate::client::{Output, ServerArgs};

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

    /// Where they go, and how many of all: "gmail.example=3"; repeat it for more. In "d{1000}.example" the braces stand
    /// for a number below 1,000, which goes up with every message.
    #[arg(long, value_name = "DOMAIN[=WEIGHT]", default_value = "gmail.example")]
    to: Vec<String>,

    /// Whether somebody waits for the messages.
    #[arg(long, value_enum, default_value = "transactional")]
    class: LoadClass,

    /// Submit so many messages a call, instead of one after the other over a stream. 0 is over a stream.
    #[arg(long, default_value_t = 0)]
    batch: usize,

    /// Ask for the first message to be sent only after so long: "1h". Without it they are sent at once.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    send_in: Duration,

    /// Ask for the last message to be sent so long after the first, and for the others evenly between.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    send_over: Duration,

    /// How to print the result.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// What the messages are to their readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadClass {
    /// Receipts, alerts.
    Transactional,
    /// Newsletters, campaigns.
    Bulk,
}

/// Submits, and prints how fast and how soon. Exit code 0 only if every message was accepted.
pub async fn run(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    if args.streams == 0 || args.in_flight == 0 {
        bail!("--streams and --in-flight must be at least 1");
    }
    let class = match args.class {
        LoadClass::Transactional => Class::Transactional,
        LoadClass::Bulk => Class::Bulk,
    };
    let mail = Mail::new(args.size, &args.to, class)?.planned(plan(args)?);
    let (answers, mut answered) = mpsc::channel(1024);
    let submit = (0..args.streams).map(|stream| one_stream(args, &mail, stream, answers.clone()));
    let submit = try_join_all(submit);
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

/// When messages are to be sent, where not at once.
fn plan(args: &LoadArgs) -> anyhow::Result<Option<Plan>> {
    if args.send_in.is_zero() && args.send_over.is_zero() {
        return Ok(None);
    }
    let first = SystemClock.now().checked_add(args.send_in);
    Ok(Some(Plan {
        first: first.context("--send-in is too far ahead")?,
        over: args.send_over,
        messages: args.messages,
    }))
}

/// One stream's part of the messages.
async fn one_stream(
    args: &LoadArgs,
    mail: &Mail,
    stream: usize,
    answers: mpsc::Sender<Answer>,
) -> anyhow::Result<()> {
    match args.batch {
        0 => streamed::submit(args, mail, stream, answers).await,
        batch => batch::submit(args, mail, stream, batch, answers).await,
    }
}

/// Ticks at one stream's part of the rate.
fn pace(rate: Rate, streams: usize) -> tokio::time::Interval {
    let parts = u32::try_from(streams).unwrap_or(u32::MAX);
    let mut ticks = tokio::time::interval(rate.fraction(1, parts).interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

/// Why a message was refused, if it was.
fn refusal(result: Option<SubmitResult>) -> Option<String> {
    match result.and_then(|result| result.outcome) {
        Some(Outcome::Accepted(_)) => None,
        Some(Outcome::Refused(error)) => Some(error.detail),
        None => Some("an answer without a result".to_owned()),
    }
}
