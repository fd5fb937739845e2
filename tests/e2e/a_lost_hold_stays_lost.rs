//! A claim that was lost is not good again because of what became of the job since (ADR 10): the fence would open for mail
//! that somebody else sends.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use model::{Class, Domain, JobId};
use queue::{Puller, Queue, Settings, Stage, Taken};
use tests::Setup;

use super::PROGRAM;
use super::broker;

const ACK_WAIT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_lost_hold_stays_lost_whatever_becomes_of_the_job() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .configured(|config| config.nats.ack_wait = format!("{}s", ACK_WAIT.as_secs()));
    let cluster = setup.start_with(0).await?;
    let queue = Queue::connect(Settings {
        ack_wait: ACK_WAIT,
        ..broker::settings(cluster.nats_url()?)
    })
    .await?;
    let (class, domain) = (Class::Bulk, "gmail.example".parse::<Domain>()?);
    let lane = queue.lanes().lane(&domain, JobId::fresh()).clone();
    let payload = Bytes::from_static(b"a job");
    let publisher = queue.publisher();
    publisher
        .ready(&lane, class, &domain, JobId::fresh(), payload)
        .await?;

    // Nobody beats for it, as in a process that stood still.
    let (holds, _) = queue.holds();
    let puller = queue.puller(&lane, class, Stage::Ready, &holds).await?;
    let lost = pull(&puller).await?;
    assert!(lost.is_proven());
    tokio::time::sleep(ACK_WAIT).await;
    let second = pull(&puller).await?;
    assert!(second.is_proven() && !lost.is_proven());
    second.release().await;
    let third = pull(&puller).await?;
    assert!(third.is_proven() && !lost.is_proven());
    drop(lost);
    assert!(third.is_proven(), "the end of a lost hold ended another");
    third.settle();
    cluster.finish().await
}

/// The hold of the one job there is.
async fn pull(puller: &Puller) -> anyhow::Result<queue::Hold> {
    let taken: Vec<Taken> = puller.pull(1).await?.try_collect().await?;
    match taken.into_iter().next().context("no job came")? {
        Taken::Job(job) => Ok(job.hold),
        Taken::Bundle(_) => bail!("a bundle came"),
    }
}
