//! Of many messages handed in at once each is accepted or refused for itself, and its caller told which.

use std::collections::BTreeMap;

use anyhow::Context as _;
use api::v1::submit_result::Outcome;
use api::v1::{
    SubmitBatchRequest, SubmitError, SubmitRequest, SubmitStreamRequest, SubmitStreamResponse,
};
use futures_util::{TryStreamExt as _, stream};
use tests::{Api, Books, PATIENCE, Setup, letter};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::PROGRAM;

const STREAMED: usize = 1000;
/// Every message of the stream with this remainder is at fault.
const FAULTY: usize = 77;

#[tokio::test]
async fn a_bad_item_is_refused_in_its_place_and_the_others_are_delivered() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let recipients = ["ann@gmail.example", "nobody", "bob@gmail.example"];
    let batch = recipients.map(letter).into();
    let answered = submit_batch(&api, batch).await?;
    let mut books = Books::default();
    let mut refused = Vec::new();
    for (place, outcome) in answered.into_iter().enumerate() {
        match outcome {
            Outcome::Accepted(accepted) => {
                assert_eq!(accepted.recipients[0].recipient, recipients[place]);
                books.accepted(accepted);
            }
            Outcome::Refused(error) => refused.push((place, error)),
        }
    }
    let [(1, error)] = &refused[..] else {
        panic!("not the second alone: {refused:?}");
    };
    assert_names_the_recipient(error);
    books
        .read_until_ended(2, &mut api.events().await?, PATIENCE)
        .await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", 2)].into());
    cluster.finish().await
}

#[tokio::test]
async fn a_batch_of_none_or_of_too_many_is_refused_as_a_whole() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    let full = vec![letter("ann@gmail.example"); 500];
    assert_eq!(submit_batch(&api, full).await?.len(), 500);
    for (count, remedy) in [
        (0, "give at least one message"),
        (501, "more than 500; split the batch"),
    ] {
        let batch = vec![letter("ann@gmail.example"); count];
        let refused = submit_batch(&api, batch).await;
        let refused = refused.err().with_context(|| format!("{count} messages"))?;
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let details = refused.get_details_bad_request().context("no details")?;
        assert_eq!(details.field_violations[0].field, "messages");
        assert!(refused.message().contains(remedy), "{refused:?}");
    }
    cluster.finish().await
}

#[tokio::test]
async fn every_message_of_a_stream_is_answered_once_and_a_bad_one_does_not_end_it()
-> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let sent = stream::iter((0..STREAMED).map(|number| SubmitStreamRequest {
        reference: number.to_string(),
        message: Some(letter(&streamed(number))),
    }));
    let answers = api.submission().submit_stream(sent).await?.into_inner();
    let mut answers: BTreeMap<usize, Outcome> = unique(answers).await?;
    assert_eq!(answers.len(), STREAMED);

    let mut books = Books::default();
    for number in 0..STREAMED {
        match answers.remove(&number).context("no answer")? {
            Outcome::Accepted(accepted) => {
                assert_eq!(accepted.recipients[0].recipient, streamed(number));
                books.accepted(accepted);
            }
            Outcome::Refused(error) => {
                assert!(is_faulty(number), "{number}: {error:?}");
                assert_names_the_recipient(&error);
            }
        }
    }
    let good = (0..STREAMED).filter(|number| !is_faulty(*number)).count();
    books
        .read_until_ended(good, &mut api.events().await?, PATIENCE)
        .await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.duplicates.len(), 0);
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", good)].into());
    cluster.finish().await
}

/// The outcomes by their numbers; an error where a message is answered twice.
async fn unique(
    mut answers: impl futures_util::Stream<Item = Result<SubmitStreamResponse, Status>> + Unpin,
) -> anyhow::Result<BTreeMap<usize, Outcome>> {
    let mut outcomes = BTreeMap::new();
    while let Some(answer) = answers.try_next().await.context("read the answers")? {
        let number = answer.reference.parse()?;
        let outcome = answer.result.and_then(|result| result.outcome);
        let earlier = outcomes.insert(number, outcome.context("an answer without an outcome")?);
        anyhow::ensure!(earlier.is_none(), "{number} was answered twice");
    }
    Ok(outcomes)
}

async fn submit_batch(api: &Api, messages: Vec<SubmitRequest>) -> Result<Vec<Outcome>, Status> {
    let request = SubmitBatchRequest { messages };
    let answered = api.submission().submit_batch(request).await?.into_inner();
    let outcomes = answered.results.into_iter();
    Ok(outcomes.filter_map(|result| result.outcome).collect())
}

fn streamed(number: usize) -> String {
    if is_faulty(number) {
        return "nobody".into();
    }
    format!("customer{number}@gmail.example")
}

fn is_faulty(number: usize) -> bool {
    number % 100 == FAULTY
}

fn assert_names_the_recipient(error: &SubmitError) {
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert_eq!(error.reason, "INVALID_FIELD");
    let detail = "recipients[0]: \"nobody\" has no '@'";
    assert!(error.detail.contains(detail), "{error:?}");
}
