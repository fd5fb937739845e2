//! Ingest dies again and again under its callers: what they send again under the same keys is one message each.

use tests::{Setup, messages};

use super::PROGRAM;
use super::under_fire::{Clients, survive};

const MESSAGES: usize = 2000;
const KILLS: usize = 3;

#[tokio::test]
async fn a_killed_ingest_accepts_nothing_twice() -> anyhow::Result<()> {
    kill_under(Clients::Call).await
}

#[tokio::test]
async fn a_killed_ingest_accepts_nothing_twice_from_a_stream() -> anyhow::Result<()> {
    kill_under(Clients::Stream).await
}

async fn kill_under(clients: Clients) -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(1).await?;
    let count = messages(MESSAGES);
    let survived = survive(&mut cluster, clients, count, KILLS, async |cluster, _| {
        cluster.kill("ingest").await?;
        cluster.stack()?.start_ingest().await
    })
    .await?;
    assert!(survived.repeated >= KILLS, "the kills met no call");
    assert!(survived.duplicates.is_empty(), "{survived:#?}");
    cluster.finish().await
}
