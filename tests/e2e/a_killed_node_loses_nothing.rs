//! Three nats-servers: one is killed again and again, the leader of a stream that is written to, then all of them at once.
//! What was acknowledged is there, and every job still comes to one end. Nobody thins out the copies by mistake.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use postrider::local::Service;
use tests::{Api, Books, Cluster, Setup, keyed, messages, moments, submit_stubbornly};
use tokio::sync::watch;
use tokio::time::Instant;

use super::PROGRAM;
use super::broker;
use super::drained::drained;

const MESSAGES: usize = 1500;
const KILLS: usize = 3;
const WORKERS: usize = 3;
const CONNECTIONS: u32 = 6;
const NODES: usize = 3;
/// The stream whose leader dies: the simulator's gmail.example is in its lane.
const STREAM: &str = "T-default-h0";
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_killed_node_loses_nothing() -> anyhow::Result<()> {
    let count = messages(MESSAGES);
    let moments = moments(KILLS, count);
    let setup = Setup::new(PROGRAM)
        .on_three_nodes()
        .saying_anything()
        .configured(|config| {
            config.nats.lanes = 1;
            config.delivery.limits.connections = CONNECTIONS;
        });
    let mut cluster = setup.start_with(WORKERS).await?;
    let api = cluster.api(0)?;
    let (mut books, mut repeated) = (Books::default(), BTreeSet::new());
    let (answered, mut progress) = watch::channel(0);
    let letters = (0..count).map(|number| {
        keyed(
            &format!("customer{number}@gmail.example"),
            &format!("letter/{number}"),
        )
    });
    let submit = submit_stubbornly(&api, letters, |answer| {
        if answer.calls > 1 {
            repeated.insert(answer.response.recipients[0].recipient.clone());
        }
        books.accepted(answer.response);
        answered.send_modify(|count| *count += 1);
    });
    let kill = async {
        for (number, moment) in moments.into_iter().enumerate() {
            progress.wait_for(|answered| *answered >= moment).await?;
            match number + 1 {
                KILLS => kill_all(&mut cluster).await?,
                _ => kill_leader(&mut cluster).await?,
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(submit, kill)?;

    read_stubbornly(&mut books, count, &api).await?;
    drained(cluster.nats_url()?).await?;
    let reconciled = books.reconcile(cluster.ledger()?);
    println!(
        "{} calls repeated, {} duplicates",
        repeated.len(),
        reconciled.duplicates.len()
    );
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", count)].into());
    let cut = KILLS * CONNECTIONS as usize;
    assert!(
        reconciled.duplicates.len() <= cut,
        "{:#?}",
        reconciled.duplicates
    );
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

/// Reads events until `count` jobs have ended; a watch that ends while the servers find together is begun anew.
async fn read_stubbornly(books: &mut Books, count: usize, api: &Api) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Ok(mut events) = api.events().await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        match books.read_until_ended(count, &mut events, PATIENCE).await {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

/// Kills the node that leads [`STREAM`], and starts it again.
async fn kill_leader(cluster: &mut Cluster) -> anyhow::Result<()> {
    let client = async_nats::connect(cluster.nats_url()?).await;
    let stream = jetstream::new(client.context("connect to NATS")?)
        .get_stream(STREAM)
        .await?;
    let leader = stream.cached_info().cluster.clone();
    let leader = leader.and_then(|cluster| cluster.leader);
    let leader = leader.context("the stream has no leader")?;
    println!("killing {leader}");
    let servers = cluster.stack()?.nats_mut();
    let server = servers.iter_mut().find(|server| server.name() == leader);
    server.context("no such server")?.kill_and_restart().await
}

async fn kill_all(cluster: &mut Cluster) -> anyhow::Result<()> {
    println!("killing all");
    for server in cluster.stack()?.nats_mut() {
        server.end().await?;
    }
    for server in cluster.stack()?.nats_mut() {
        server.start_again().await?;
    }
    Ok(())
}
