//! Accepted means synced: the power is cut under the nats-servers while messages are accepted, and nothing that was
//! accepted is lost.
//!
//! Needs root, for a disk that can lose its power: `make powercut`. A control run, in which the servers sync when they
//! like, must lose something; otherwise the disks did not lose their power and the test shows nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::SubmitRequest;
use api::v1::submit_request::Content;
use futures_util::{StreamExt as _, stream};
use rand::RngExt as _;
use tests::{Cluster, Disk, Setup, eventually, letter, messages};

/// Built by cargo before these tests run.
const PROGRAM: &str = env!("CARGO_BIN_EXE_postrider-under-test");
/// Messages accepted at most before the power is cut.
const MESSAGES: usize = 20_000;
/// Octets of each disk: room for some tens of thousands of messages.
const SIZE: u64 = 1 << 30;
const IN_FLIGHT: usize = 64;
/// When the power is cut: so many messages are accepted by then, at random.
const CUT_AFTER: std::ops::Range<f64> = 0.1..0.3;
const PATIENCE: Duration = Duration::from_secs(240);
/// After so long without a change the receivers have all they will ever have.
const QUIET: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Always,
    WhenItLikes,
}

#[tokio::test]
#[ignore = "needs root: make powercut"]
async fn one_node() -> anyhow::Result<()> {
    compare(1).await
}

#[tokio::test]
#[ignore = "needs root: make powercut"]
async fn three_nodes_at_once() -> anyhow::Result<()> {
    compare(3).await
}

/// The control run, and the run that must lose nothing.
async fn compare(nodes: usize) -> anyhow::Result<()> {
    ensure!(Disk::is_possible(), "mounting disks needs root");
    let control = lost(nodes, Sync::WhenItLikes)
        .await
        .context("control run")?;
    ensure!(
        control > 0,
        "the test is void: servers that sync when they like lost nothing"
    );
    lost(nodes, Sync::Always).await.map(drop)
}

/// How many accepted messages never arrive when the power is cut while they are accepted.
async fn lost(nodes: usize, sync: Sync) -> anyhow::Result<usize> {
    let disks: Vec<Disk> = (0..nodes)
        .map(|_| Disk::new(SIZE))
        .collect::<Result<_, _>>()?;
    let mut cluster = start(nodes, sync, &disks).await?;
    // The streams are there; what may be lost is mail.
    for disk in &disks {
        disk.sync()?;
    }
    let accepted = accept_until_cut(&mut cluster, &disks).await?;
    for disk in &disks {
        disk.restore()?;
    }
    for server in cluster.stack()?.nats_mut() {
        server.start_again().await?;
    }
    cluster.stack()?.start_worker("worker")?;
    let arrived = arrived(&cluster, &accepted).await?;
    let lost = accepted.difference(&arrived).count();
    println!(
        "{nodes} nodes, sync {}: accepted {}, lost {lost}",
        match sync {
            Sync::Always => "always",
            Sync::WhenItLikes => "when they like",
        },
        accepted.len()
    );
    // A cluster that is not finished shows its logs and keeps them.
    ensure!(
        sync == Sync::WhenItLikes || lost == 0,
        "accepted and lost: {lost}"
    );
    cluster.finish().await?;
    Ok(lost)
}

async fn start(nodes: usize, sync: Sync, disks: &[Disk]) -> anyhow::Result<Cluster> {
    let mut setup = Setup::new(PROGRAM)
        .saying_anything()
        .storing_in(disks.iter().map(Disk::store).collect())
        .configured(|config| {
            config.nats.ready_bytes = "256MiB".into();
            config.nats.event_bytes = "64MiB".into();
        });
    if nodes > 1 {
        setup = setup.on_three_nodes();
    }
    if sync == Sync::WhenItLikes {
        setup = setup
            .syncing_lazily()
            .configured(|config| config.nats.sync = "allow-lazy".into());
    }
    setup.start_with(0).await
}

/// Submits until the power is cut, and answers to whom messages were accepted.
async fn accept_until_cut(
    cluster: &mut Cluster,
    disks: &[Disk],
) -> anyhow::Result<HashSet<String>> {
    let count = messages(MESSAGES);
    let cut_after = (count as f64 * rand::rng().random_range(CUT_AFTER)) as usize;
    let api = cluster.api(0)?;
    let submit = |number: usize| {
        let (api, to) = (api.clone(), format!("customer{number}@gmail.example"));
        async move { api.submit(request(&to)).await.map(|_| to) }
    };
    let mut answers = stream::iter((0..count).map(submit)).buffer_unordered(IN_FLIGHT);
    let mut accepted = HashSet::new();
    let mut is_cut = false;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(to) => drop(accepted.insert(to)),
            Err(status) => {
                ensure!(is_cut, "refused before the power was cut: {status}");
                break;
            }
        }
        if accepted.len() >= cut_after && !is_cut {
            is_cut = true;
            // All at once, as nearly as can be; the calls in flight go on meanwhile.
            for disk in disks {
                disk.cut()?;
            }
            for server in cluster.stack()?.nats_mut() {
                server.end().await?;
            }
        }
    }
    ensure!(is_cut, "the power was never cut");
    Ok(accepted)
}

/// To whom mail came, once nothing more comes.
async fn arrived(cluster: &Cluster, accepted: &HashSet<String>) -> anyhow::Result<HashSet<String>> {
    let (mut known, mut since) = (0, tokio::time::Instant::now());
    eventually("mail has arrived", PATIENCE, async || {
        let arrived: HashSet<String> = cluster
            .ledger()?
            .into_iter()
            .map(|entry| entry.recipient)
            .collect();
        if arrived.len() != known {
            (known, since) = (arrived.len(), tokio::time::Instant::now());
        }
        let all = accepted.is_subset(&arrived);
        Ok((all || since.elapsed() > QUIET).then_some(arrived))
    })
    .await
}

/// A letter of some kilobytes.
fn request(to: &str) -> SubmitRequest {
    let mut request = letter(to);
    if let Some(Content::Parts(parts)) = &mut request.content {
        parts.text = "Thank you for your order.\n".repeat(100);
    }
    request
}
