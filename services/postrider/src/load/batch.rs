//! Submits by `SubmitBatch`: several messages a call, and several calls at once.

use anyhow::{Context as _, ensure};
use api::v1::{SubmitBatchRequest, SubmitResult};
use futures_util::future::try_join_all;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, Interval};

use super::mail::Mail;
use super::{Answer, LoadArgs, pace, refusal};
use crate::client::ApiClient;

/// Every `streams`-th message, `batch` of them a call, over a connection of its own.
pub(super) async fn submit(
    args: &LoadArgs,
    mail: &Mail,
    stream: usize,
    batch: usize,
    answers: mpsc::Sender<Answer>,
) -> anyhow::Result<()> {
    let numbers: Vec<usize> = (stream..args.messages).step_by(args.streams).collect();
    let pace = args.rate.map(|rate| pace(rate, args.streams));
    let rest = Mutex::new((numbers.chunks(batch), pace));
    let client = ApiClient::new(&args.server)?;
    let calls = (0..args.in_flight.div_ceil(batch)).map(|_| async {
        while let Some(numbers) = next(&mut *rest.lock().await).await {
            call(&client, mail, numbers, &answers).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(calls).await.map(drop)
}

/// The next batch, when the rate allows all of it.
async fn next<'a>(
    (chunks, pace): &mut (std::slice::Chunks<'a, usize>, Option<Interval>),
) -> Option<&'a [usize]> {
    let numbers = chunks.next()?;
    if let Some(pace) = pace {
        for _ in numbers {
            pace.tick().await;
        }
    }
    Some(numbers)
}

async fn call(
    client: &ApiClient,
    mail: &Mail,
    numbers: &[usize],
    answers: &mpsc::Sender<Answer>,
) -> anyhow::Result<()> {
    let messages = numbers.iter().map(|number| mail.message(*number)).collect();
    let began = Instant::now();
    let mut submission = client.submission();
    let answered = submission
        .submit_batch(SubmitBatchRequest { messages })
        .await;
    let results: Vec<SubmitResult> = answered.context("submit a batch")?.into_inner().results;
    ensure!(
        results.len() == numbers.len(),
        "the server answered {} of {} messages",
        results.len(),
        numbers.len()
    );
    for result in results {
        let answer = Answer {
            took: began.elapsed(),
            refused: refusal(Some(result)),
        };
        answers.send(answer).await.context("count an answer")?;
    }
    Ok(())
}
