//! A job stands in the queue several times, as it may after an outage that separated what was stored from what was
//! acknowledged: it is sent once.

use std::time::Duration;

use anyhow::bail;
use futures_util::TryStreamExt as _;
use model::{Class, Domain, JobId};
use queue::{Lane, Pulled, Queue, Stage, Taken};
use tests::{Books, PATIENCE, Setup, letter};

use super::PROGRAM;
use super::broker;
use super::drained::drained;

const COPIES: usize = 5;
const CLASS: Class = Class::Transactional;

#[tokio::test]
async fn copies_of_a_job_are_sent_once() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    // Every reply comes late: all copies are in hand before the first of them is sent.
    books.accepted(api.submit(letter("slow@gmail.example")).await?);
    let url = cluster.nats_url()?.to_owned();
    copy(&url).await?;

    cluster.stack()?.start_worker("worker-1")?;
    let mut events = api.events().await?;
    books.read_until_ended(1, &mut events, PATIENCE).await?;
    drained(&url).await?;
    assert_eq!(cluster.ledger()?.len(), 1);
    cluster.finish().await
}

/// So long after a worker has come, what is stored is looked up for no other reason.
const SETTLED_IN: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_job_that_a_repeated_call_stores_after_its_end_is_not_sent_again() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start_with(0).await?;
    let api = cluster.api(0)?;
    let mut books = Books::default();
    books.accepted(api.submit(letter("ann@gmail.example")).await?);
    let url = cluster.nats_url()?.to_owned();
    let queue = Queue::connect(broker::settings(&url)).await?;
    let (lane, domain, job) = the_job(&queue).await?;
    let payload = job.payload.clone();
    job.hold.release().await;

    cluster.stack()?.start_worker("worker-1")?;
    cluster.logged("worker-1", "delivery working").await?;
    let mut events = api.events().await?;
    books.read_until_ended(1, &mut events, PATIENCE).await?;
    tokio::time::sleep(SETTLED_IN).await;
    // Another id stands for a stream that does not know the job's.
    queue
        .publisher()
        .ready_again(&lane, CLASS, &domain, JobId::fresh(), payload)
        .await?;
    drained(&url).await?;
    assert_eq!(cluster.ledger()?.len(), 1);
    cluster.finish().await
}

/// Stores the one job there is again and again, each time under another id.
async fn copy(url: &str) -> anyhow::Result<()> {
    let queue = Queue::connect(broker::settings(url)).await?;
    let (lane, domain, job) = the_job(&queue).await?;
    for _ in 1..COPIES {
        let (id, payload) = (JobId::fresh(), job.payload.clone());
        queue
            .publisher()
            .ready(&lane, CLASS, &domain, id, payload)
            .await?;
    }
    job.hold.release().await;
    Ok(())
}

/// The one job there is, taken, and where it stood.
async fn the_job(queue: &Queue) -> anyhow::Result<(Lane, Domain, Pulled)> {
    let (holds, _) = queue.holds();
    let domain = "gmail.example".parse::<Domain>()?;
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    let puller = queue.puller(&lane, CLASS, Stage::Ready, &holds).await?;
    let taken: Vec<Taken> = puller.pull(1).await?.try_collect().await?;
    match taken.into_iter().next() {
        Some(Taken::Job(job)) => Ok((lane, domain, job)),
        Some(Taken::Bundle(_)) | None => bail!("no job came"),
    }
}
