//! A job stands in the queue several times, as it may after an outage that separated what was stored from what was
//! acknowledged: it is sent once.

use anyhow::bail;
use futures_util::TryStreamExt as _;
use model::{Class, Domain, JobId};
use queue::{Queue, Stage, Taken};
use tests::{Books, PATIENCE, Setup, letter};

use super::PROGRAM;
use super::broker;
use super::drained::drained;

const COPIES: usize = 5;

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

/// Stores the one job there is again and again, each time under another id.
async fn copy(url: &str) -> anyhow::Result<()> {
    let queue = Queue::connect(broker::settings(url)).await?;
    let (holds, _) = queue.holds();
    let (class, domain) = (Class::Transactional, "gmail.example".parse::<Domain>()?);
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    let puller = queue.puller(&lane, class, Stage::Ready, &holds).await?;
    let taken: Vec<Taken> = puller.pull(1).await?.try_collect().await?;
    let Some(Taken::Job(job)) = taken.into_iter().next() else {
        bail!("no job came");
    };
    for _ in 1..COPIES {
        let (id, payload) = (JobId::fresh(), job.payload.clone());
        queue
            .publisher()
            .ready(&lane, class, &domain, id, payload)
            .await?;
    }
    job.hold.release().await;
    Ok(())
}
