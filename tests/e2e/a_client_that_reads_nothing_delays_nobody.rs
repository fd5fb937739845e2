//! A client that sends and does not read its answers holds up itself, and nobody whose messages go the same way.

use std::time::Duration;

use anyhow::Context as _;
use api::v1::SubmitStreamRequest;
use futures_util::stream;
use tests::{Setup, letter};

use super::PROGRAM;

/// More than the answers that the connection takes unread.
const UNREAD: usize = 5000;
const MESSAGES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_client_that_reads_nothing_delays_nobody() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let requests = (0..UNREAD).map(|number| SubmitStreamRequest {
        reference: format!("{number} {}", "x".repeat(200)),
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
    drop(unread);
    cluster.finish().await
}
