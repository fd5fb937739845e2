//! A look into JetStream, past the product.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{FromConsumer as _, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, Info};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use model::{ByteSize, EgressGroup};
use queue::{Settings, SyncPolicy};

/// A stream that is not of the product.
const FOREIGN: &str = "FOREIGN";

/// How the product's own queue is reached, for what its services do not show.
pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        servers: vec![url.to_owned()],
        credentials_file: None,
        monitors: vec![],
        sync: SyncPolicy::AllowLazy,
        ordered_disks: false,
        replicas: 1,
        hashed_lanes: 4,
        own_lanes: vec![],
        egress_group: EgressGroup::default(),
        ready_bytes: ByteSize(1 << 30),
        event_bytes: ByteSize(1 << 30),
        event_age: Duration::from_secs(3600),
        body_age: Duration::from_secs(3600),
        ack_wait: Duration::from_secs(30),
    }
}

/// Every stream there is, by name.
pub(crate) async fn streams(url: &str) -> anyhow::Result<BTreeMap<String, Info>> {
    let streams = connect(url).await?.streams();
    let named = streams.map_ok(|info| (info.config.name.clone(), info));
    named.try_collect().await.context("list the streams")
}

/// The streams that hold anything, and how many messages.
pub(crate) async fn occupied(url: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let streams = streams(url).await?.into_iter();
    let counts = streams.map(|(name, info)| (name, info.state.messages));
    Ok(counts.filter(|(_, messages)| *messages > 0).collect())
}

/// The subjects under which something stands in the streams of deferred jobs.
pub(crate) async fn subjects(url: &str) -> anyhow::Result<Vec<String>> {
    let context = connect(url).await?;
    let mut found = Vec::new();
    for name in streams(url).await?.into_keys() {
        if !name.starts_with('D') {
            continue;
        }
        let stream = context.get_stream(&name).await.context("find a stream")?;
        let standing = stream.info_with_subjects(">").await;
        let standing: Vec<(String, usize)> = standing?.try_collect().await?;
        found.extend(standing.into_iter().map(|(subject, _)| subject));
    }
    Ok(found)
}

/// Jobs that wait in the streams whose names begin with one of `kinds` and have been handed to no worker yet.
pub(crate) async fn undelivered(url: &str, kinds: &[&str]) -> anyhow::Result<u64> {
    let context = connect(url).await?;
    let mut waiting = 0;
    for name in streams(url).await?.into_keys() {
        if kinds.iter().any(|kind| name.starts_with(kind)) {
            let consumer: PullConsumer =
                context
                    .get_consumer_from_stream("workers", &name)
                    .await
                    .with_context(|| format!("ask for the consumer of {name}"))?;
            waiting += consumer.cached_info().num_pending;
        }
    }
    Ok(waiting)
}

/// How the consumer of the lane's stream `name` was made.
pub(crate) async fn consumer(url: &str, name: &str) -> anyhow::Result<pull::Config> {
    let found: anyhow::Result<PullConsumer> = connect(url)
        .await?
        .get_consumer_from_stream("workers", name)
        .await
        .with_context(|| format!("ask for the consumer of {name}"));
    let config = found?.cached_info().config.clone();
    pull::Config::try_from_consumer_config(config).map_err(anyhow::Error::from_boxed)
}

/// Puts another consumer in the place of that of the lane's stream `name`, with its state in memory or not.
pub(crate) async fn make_consumer_anew(
    url: &str,
    name: &str,
    memory_storage: bool,
) -> anyhow::Result<()> {
    let config = pull::Config {
        memory_storage,
        ..consumer(url, name).await?
    };
    let context = connect(url).await?;
    context.delete_consumer_from_stream("workers", name).await?;
    let made = context.create_consumer_on_stream(config, name).await;
    let _: PullConsumer = made.context("make a consumer")?;
    Ok(())
}

/// Throws away what the streams hold whose names begin with one of `kinds`.
pub(crate) async fn purge(url: &str, kinds: &[&str]) -> anyhow::Result<()> {
    let context = connect(url).await?;
    for name in streams(url).await?.into_keys() {
        if kinds.iter().any(|kind| name.starts_with(kind)) {
            let stream = context.get_stream(&name).await.context("find a stream")?;
            stream
                .purge()
                .await
                .with_context(|| format!("purge {name}"))?;
        }
    }
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<jetstream::Context> {
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    Ok(jetstream::new(client))
}

/// Messages in the streams whose names begin with one of `kinds`.
pub(crate) async fn messages(url: &str, kinds: &[&str]) -> anyhow::Result<u64> {
    let streams = streams(url).await?.into_iter();
    let those = streams.filter(|(name, _)| kinds.iter().any(|kind| name.starts_with(kind)));
    Ok(those.map(|(_, info)| info.state.messages).sum())
}

/// How many jobs the broker has yet to hand out, or has handed out and not heard of.
pub(crate) async fn unsettled(url: &str) -> anyhow::Result<u64> {
    let jetstream = connect(url).await?;
    let mut unsettled = 0;
    for name in occupied(url).await?.into_keys() {
        let stream = jetstream.get_stream(name).await?;
        if let Ok(workers) = stream.consumer_info("workers").await {
            unsettled += workers.num_pending + workers.num_ack_pending as u64;
        }
    }
    Ok(unsettled)
}

/// Stores what is not ours until the broker takes no more, as another user of the same servers does.
pub(crate) async fn fill(url: &str) -> anyhow::Result<()> {
    let jetstream = connect(url).await?;
    let config = Config {
        name: FOREIGN.to_owned(),
        subjects: vec!["foreign".to_owned()],
        ..Config::default()
    };
    let made = jetstream.get_or_create_stream(config).await;
    made.context("make a stream of somebody else")?;
    for size in [512 << 10, 64 << 10, 4 << 10, 100] {
        let payload = Bytes::from(vec![0; size]);
        while publish(&jetstream, payload.clone()).await.is_ok() {}
    }
    Ok(())
}

/// Throws away the first `messages` of what that user has stored since it began.
pub(crate) async fn make_room(url: &str, messages: u64) -> anyhow::Result<()> {
    let stream = connect(url).await?.get_stream(FOREIGN).await?;
    stream.purge().sequence(messages + 1).await?;
    Ok(())
}

async fn publish(jetstream: &jetstream::Context, payload: Bytes) -> anyhow::Result<()> {
    let stored = jetstream.publish("foreign", payload).await?;
    stored.await?;
    Ok(())
}
