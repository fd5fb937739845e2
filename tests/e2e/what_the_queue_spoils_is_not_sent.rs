//! A job whose content is not what was accepted any more, because a disk or a program has spoiled it, is set aside and not
//! sent; where its body stands outside of it, it waits.

use anyhow::{Context as _, bail};
use api::v1::submit_request::Content;
use api::v1::{EventKind, SubmitRequest};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use model::{Body, Class, Domain, Job, JobId, Packing};
use queue::{Hold, Lane, Queue, Stage, Taken};
use tests::{Books, PATIENCE, Setup, letter};

use super::PROGRAM;
use super::broker;

/// More than is stored as it is.
const PACKED: usize = 5 << 10;
/// More than a job holds.
const LARGE: usize = 300 << 10;

#[tokio::test]
async fn what_the_queue_spoils_is_not_sent() -> anyhow::Result<()> {
    is_set_aside(letter("ann@gmail.example"), Packing::Plain).await
}

#[tokio::test]
async fn what_is_spoilt_where_it_is_packed_is_not_sent() -> anyhow::Result<()> {
    is_set_aside(of_size("ann@gmail.example", PACKED), Packing::Lz4).await
}

/// One octet of a message changes, which stands in its job like this.
async fn is_set_aside(message: SubmitRequest, packing: Packing) -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).allowing("job's checksum does not match, setting it aside");
    let mut cluster = setup.start_with(0).await?;
    let api = cluster.api(0)?;
    api.submit(message).await?;
    let stored = spoil(cluster.nats_url()?).await?;
    assert_eq!(stored, packing);

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

/// A copy of a large body may be good elsewhere: the job waits for that.
#[tokio::test]
async fn what_is_spoilt_outside_of_its_job_is_not_sent_either() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).allowing("body not available, job is tried later");
    let mut cluster = setup.start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    books.accepted(api.submit(of_size("ann@gmail.example", LARGE)).await?);

    let queue = Queue::connect(broker::settings(cluster.nats_url()?)).await?;
    let (blobs, (job, hold)) = (queue.blobs().await?, take(&queue).await?);
    let Body::Blob(name) = &job.body else {
        bail!("the content is in the job");
    };
    let good = blobs.get(name).await?;
    blobs.put(name, &with_its_end_changed(&good)?).await?;
    hold.release().await;

    cluster.stack()?.start_worker("worker-1")?;
    let said = format!("body {name} does not match its checksum");
    cluster.logged("worker-1", &said).await?;
    assert!(cluster.ledger()?.is_empty());
    blobs.put(name, &good).await?;
    let mut events = api.events().await?;
    books.read_until_ended(1, &mut events, PATIENCE).await?;
    assert_eq!(cluster.ledger()?.len(), 1);
    cluster.finish().await
}

fn of_size(to: &str, size: usize) -> SubmitRequest {
    let mut request = letter(to);
    if let Some(Content::Parts(parts)) = &mut request.content {
        parts.text = "Thank you for your order.\n".repeat(size / 26);
    }
    request
}

/// Takes the one job there is, and puts it back with one octet of its content changed; how that is stored.
async fn spoil(url: &str) -> anyhow::Result<Packing> {
    let queue = Queue::connect(broker::settings(url)).await?;
    let (mut job, hold) = take(&queue).await?;
    let Body::Inline(content) = &job.body else {
        bail!("the content is not in the job");
    };
    job.body = Body::Inline(with_its_end_changed(content)?);
    let (class, domain, lane) = address(&queue)?;
    let payload = api::encode_job(&job).into();
    let publisher = queue.publisher();
    // Under another id, because the stream remembers this job's.
    publisher
        .ready(&lane, class, &domain, JobId::fresh(), payload)
        .await?;
    hold.settle();
    Ok(job.packing)
}

/// The one job there is.
async fn take(queue: &Queue) -> anyhow::Result<(Job, Hold)> {
    let (holds, _) = queue.holds();
    let (class, _, lane) = address(queue)?;
    let puller = queue.puller(&lane, class, Stage::Ready, &holds).await?;
    let taken: Vec<Taken> = puller.pull(1).await?.try_collect().await?;
    let Some(Taken::Job(taken)) = taken.into_iter().next() else {
        bail!("no job came");
    };
    Ok((api::decode_job(taken.payload)?, taken.hold))
}

/// Where it stands.
fn address(queue: &Queue) -> anyhow::Result<(Class, Domain, Lane)> {
    let domain = "gmail.example".parse()?;
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    Ok((Class::Transactional, domain, lane))
}

fn with_its_end_changed(content: &[u8]) -> anyhow::Result<Bytes> {
    let mut spoilt = content.to_vec();
    // A line end would no longer be one, which is noticed in any case.
    let last = spoilt.iter_mut().rfind(|octet| octet.is_ascii_alphabetic());
    *last.context("there is no content")? ^= 1;
    Ok(Bytes::from(spoilt))
}
