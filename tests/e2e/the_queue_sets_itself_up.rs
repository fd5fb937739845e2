//! Whoever starts first makes the streams; starting again changes nothing, or exactly what the configuration changed.

use postrider::local::Service;
use tests::{Api, Books, PATIENCE, Setup, letter, own_lanes};

use super::PROGRAM;
use super::broker;

#[tokio::test]
async fn services_that_start_together_on_an_empty_queue_all_come_up() -> anyhow::Result<()> {
    let mut cluster = Setup::new(PROGRAM).start().await?;
    let second = postrider::local::free_port()?.to_string();
    let elsewhere = [("POSTRIDER__INGEST__LISTEN", second.as_str())];
    for (name, verb, environment) in [
        ("ingest-1", "ingest", &[][..]),
        ("worker-1", "delivery", &[]),
        ("ingest-2", "ingest", &elsewhere),
        ("worker-2", "delivery", &[]),
    ] {
        cluster.start_service(&Service {
            name,
            verb,
            environment,
        })?;
    }
    for (name, up) in [
        ("ingest-1", "ingest listening"),
        ("ingest-2", "ingest listening"),
        ("worker-1", "delivery working"),
        ("worker-2", "delivery working"),
    ] {
        cluster.logged(name, up).await?;
    }
    let verbs = cluster.verbs()?;
    let other = Api::anonymous(&format!("http://{second}"))?.with_key(verbs.key())?;
    let api = cluster.api(0)?;
    api.submit(letter("ann@gmail.example")).await?;
    other.submit(letter("bob@gmail.example")).await?;
    Books::default()
        .read_until_ended(2, &mut other.events().await?, PATIENCE)
        .await?;
    cluster.finish().await
}

#[tokio::test]
async fn a_changed_setting_is_carried_over_to_the_streams_on_the_next_start() -> anyhow::Result<()>
{
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.nats.ready_bytes = "64MiB".into();
        config.nats.own_lanes = vec![own_lanes("gmail", &["gmail.example"], 2)];
    });
    let mut cluster = setup.start_with(0).await?;
    assert_about(ready_bytes(cluster.nats_url()?).await?, 64 << 20);
    cluster.api(0)?.submit(letter("ann@gmail.example")).await?;

    let environment = [("POSTRIDER__NATS__READY_BYTES", "128MiB")];
    cluster.take("ingest")?.stop(PATIENCE).await?;
    cluster.start_service(&Service {
        name: "ingest-again",
        verb: "ingest",
        environment: &environment,
    })?;
    cluster.logged("ingest-again", "ingest listening").await?;
    assert_about(ready_bytes(cluster.nats_url()?).await?, 128 << 20);

    cluster.start_service(&Service {
        name: "worker-1",
        verb: "delivery",
        environment: &environment,
    })?;
    Books::default()
        .read_until_ended(1, &mut cluster.api(0)?.events().await?, PATIENCE)
        .await?;
    cluster.finish().await
}

/// Of a lane's consumer.
const STREAM: &str = "T-default-h0";

#[tokio::test]
async fn several_servers_remember_in_memory_but_where_they_did_not_before() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).on_three_nodes().saying_anything();
    let mut cluster = setup.start_with(0).await?;
    let url = cluster.nats_url()?.to_owned();
    let made = broker::consumer(&url, STREAM).await?;
    assert!(made.memory_storage);

    broker::make_consumer_anew(&url, STREAM, false).await?;
    cluster.stack()?.start_worker("worker-1")?;
    cluster.logged("worker-1", "delivery working").await?;
    assert!(!broker::consumer(&url, STREAM).await?.memory_storage);
    cluster.finish().await
}

#[tokio::test]
async fn one_server_writes_down_what_it_gave_to_whom() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(0).await?;
    let made = broker::consumer(cluster.nats_url()?, STREAM).await?;
    assert!(!made.memory_storage);
    cluster.finish().await
}

#[tokio::test]
async fn a_lane_that_still_holds_mail_cannot_be_configured_away() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).allowing("error: prepare the queue");
    let mut cluster = setup.start_with(0).await?;
    let api = cluster.api(0)?;
    for number in 0..16 {
        api.submit(letter(&format!("ann@d{number}.gmail.example")))
            .await?;
    }
    cluster.take("ingest")?.stop(PATIENCE).await?;
    cluster.start_service(&Service {
        name: "worker-1",
        verb: "delivery",
        environment: &[("POSTRIDER__NATS__LANES", "1")],
    })?;
    assert_eq!(cluster.ends("worker-1").await?, Some(1));
    let log = cluster.log("worker-1")?;
    assert!(
        log.contains("stream T-default-h") && log.contains("set the former lanes"),
        "{log}"
    );
    cluster.finish().await
}

/// Equal shares may leave an octet for each stream.
fn assert_about(bytes: i64, wanted: i64) {
    assert!(
        (wanted - 64..=wanted).contains(&bytes),
        "{bytes}, not {wanted}"
    );
}

/// What all streams of ready jobs may hold together.
async fn ready_bytes(url: &str) -> anyhow::Result<i64> {
    let streams = broker::streams(url).await?;
    let ready = streams
        .iter()
        .filter(|(name, _)| name.starts_with("T-") || name.starts_with("B-"));
    Ok(ready.map(|(_, info)| info.config.max_bytes).sum())
}
