//! A job whose content is not what was accepted any more, because a disk or a program has spoiled it, is set aside and not
//! sent.

use anyhow::{Context as _, bail};
use api::v1::EventKind;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use model::{Body, Class, JobId};
use queue::{Queue, Stage, Taken};
use tests::{PATIENCE, Setup, letter};

use super::PROGRAM;
use super::broker;

#[tokio::test]
async fn what_the_queue_spoils_is_not_sent() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).allowing("job's checksum does not match, setting it aside");
    let mut cluster = setup.start_with(0).await?;
    let to = "ann@gmail.example";
    let api = cluster.api(0)?;
    api.submit(letter(to)).await?;
    spoil(cluster.nats_url()?).await?;

    cluster.stack()?.start_worker("worker-1")?;
    let mut events = api.events().await?;
    let ended = loop {
        let event = tokio::time::timeout(PATIENCE, events.try_next()).await??;
        let event = event.context("the server ended the watch")?;
        if event.kind() != EventKind::Accepted {
            break event;
        }
    };
    assert_eq!(ended.kind(), EventKind::Quarantined, "{ended:?}");
    assert_eq!(
        ended.detail,
        "the stored message does not match its checksum"
    );
    assert!(cluster.ledger()?.is_empty());
    cluster.finish().await
}

/// Takes the one job there is, and puts it back with one octet of its content changed.
async fn spoil(url: &str) -> anyhow::Result<()> {
    let queue = Queue::connect(broker::settings(url)).await?;
    let (holds, _) = queue.holds();
    let (class, domain) = (Class::Transactional, "gmail.example".parse()?);
    let lane = queue.lanes().lane(&domain).clone();
    let puller = queue.puller(&lane, class, Stage::Ready, &holds).await?;
    let taken: Vec<Taken> = puller.pull(1).await?.try_collect().await?;
    let Some(Taken::Job(taken)) = taken.into_iter().next() else {
        bail!("no job came");
    };
    let mut job = api::decode_job(taken.payload)?;
    let Body::Inline(content) = &job.body else {
        bail!("the content is not in the job");
    };
    let mut spoilt = content.to_vec();
    *spoilt.last_mut().context("there is no content")? ^= 1;
    job.body = Body::Inline(Bytes::from(spoilt));
    let publisher = queue.publisher();
    // Under another id, because the stream remembers this job's.
    publisher
        .ready(
            &lane,
            class,
            &domain,
            JobId::fresh(),
            api::encode_job(&job).into(),
        )
        .await?;
    taken.hold.settle().await?;
    Ok(())
}
