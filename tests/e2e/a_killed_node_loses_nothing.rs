//! Three nats-servers: one is killed again and again, the leader of a stream that is written to, then all of them at once.
//! What was acknowledged is there, and every job still comes to one end. Nobody thins out the copies by mistake.

use anyhow::Context as _;
use async_nats::jetstream;
use postrider::local::Service;
use tests::{Cluster, PATIENCE, Setup, eventually, messages};

use super::PROGRAM;
use super::broker;
use super::under_fire::{Clients, survive};

const MESSAGES: usize = 1500;
/// Of a leader, and the last one of all servers.
const KILLS: usize = 4;
const WORKERS: usize = 3;
const CONNECTIONS: u32 = 6;
const NODES: usize = 3;
/// The stream whose leader dies: the simulator's gmail.example is in its lane.
const STREAM: &str = "T-default-h0";

#[tokio::test]
async fn a_killed_node_loses_nothing() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .on_three_nodes()
        .saying_anything()
        .configured(|config| {
            config.nats.lanes = 1;
            config.delivery.limits.connections = CONNECTIONS;
        });
    let mut cluster = setup.start_with(WORKERS).await?;
    let (clients, count) = (Clients::Call, messages(MESSAGES));
    let survived = survive(
        &mut cluster,
        clients,
        count,
        KILLS,
        async |cluster, number| match number + 1 {
            KILLS => kill_all(cluster).await,
            _ => kill_leader(cluster).await,
        },
    )
    .await?;
    let cut = KILLS * CONNECTIONS as usize;
    assert!(survived.duplicates.len() <= cut, "{survived:#?}");
    cluster.finish().await
}

#[tokio::test]
async fn copies_are_never_thinned_out_by_a_process_that_knows_of_fewer() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).on_three_nodes().saying_anything();
    let mut cluster = setup.start_with(0).await?;
    cluster.start_service(&Service {
        environment: &[("POSTRIDER__NATS__REPLICAS", "1")],
        ..Service::new("forgetful", "delivery")
    })?;
    assert_eq!(cluster.ends("forgetful").await?, Some(1));
    cluster.logged("forgetful", "nats.replicas").await?;
    for (name, info) in broker::streams(cluster.nats_url()?).await? {
        assert_eq!(info.config.num_replicas, NODES, "{name}");
    }
    cluster.finish().await
}

/// Kills the node that leads [`STREAM`], and starts it again.
async fn kill_leader(cluster: &mut Cluster) -> anyhow::Result<()> {
    let leader = leader(cluster).await?;
    println!("killing node {leader}");
    cluster.stack()?.nats_mut()[leader].kill_and_restart().await
}

/// The number of the node that leads [`STREAM`], once one does: the strike before this one may have cost it its leader.
pub(crate) async fn leader(cluster: &mut Cluster) -> anyhow::Result<usize> {
    let url = cluster.nats_url()?.to_owned();
    let leader = eventually("the stream has a leader", PATIENCE, async || {
        Ok(leader_of(&url, STREAM).await.unwrap_or_default())
    })
    .await?;
    let mut servers = cluster.stack()?.nats().iter();
    let found = servers.position(|server| server.name() == leader);
    found.context("no such server")
}

/// The name of the server that leads `stream`, if any does.
async fn leader_of(url: &str, stream: &str) -> anyhow::Result<Option<String>> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let stream = jetstream.get_stream(stream).await?;
    let cluster = stream.cached_info().cluster.clone();
    Ok(cluster.and_then(|cluster| cluster.leader))
}

/// Kills all nodes at once, and starts them again.
pub(crate) async fn kill_all(cluster: &mut Cluster) -> anyhow::Result<()> {
    println!("killing all");
    for server in cluster.stack()?.nats_mut() {
        server.end().await?;
    }
    for server in cluster.stack()?.nats_mut() {
        server.start_again().await?;
    }
    Ok(())
}
