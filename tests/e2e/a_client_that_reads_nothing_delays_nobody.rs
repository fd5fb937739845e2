//! A client that sends and does not read its answers holds up itself, and nobody whose messages go the same way.

use std::time::Duration;

use anyhow::Context as _;
use api::v1::{SubmitStreamRequest, SubmitStreamResponse};
use futures_util::{TryStreamExt as _, stream};
use tests::{Setup, letter};

use super::PROGRAM;

/// Several times the answers that the connection takes unread: 2 MiB, by default.
const UNREAD: usize = 1500;
/// Octets of a reference, which its answer repeats.
const REFERENCE: usize = 8 << 10;
const MESSAGES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_client_that_reads_nothing_delays_nobody() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let requests = (0..UNREAD).map(|number| SubmitStreamRequest {
        reference: format!("{number} {}", "x".repeat(REFERENCE)),
        message: Some(letter(&format!("unread{number}@gmail.example"))),
    });
    let unread = cluster
        .api(0)?
        .submission()
        .submit_stream(stream::iter(requests))
        .await
        .context("open a stream")?;
    // Long enough for its answers to fill what they may.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let api = cluster.api(0)?;
    let others = async {
        for number in 0..MESSAGES {
            api.submit(letter(&format!("other{number}@gmail.example")))
                .await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, others)
        .await
        .context("others wait for a client that does not read")??;
    let answers: Vec<SubmitStreamResponse> = unread.into_inner().try_collect().await?;
    assert_eq!(answers.len(), UNREAD, "what it is told once it reads");
    cluster.finish().await
}
