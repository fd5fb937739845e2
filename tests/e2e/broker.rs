//! A look into JetStream, past the product.

use std::collections::BTreeMap;

use anyhow::Context as _;
use async_nats::jetstream;
use async_nats::jetstream::stream::Info;
use futures_util::TryStreamExt as _;

/// Every stream there is, by name.
pub(crate) async fn streams(url: &str) -> anyhow::Result<BTreeMap<String, Info>> {
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    let streams = jetstream::new(client).streams();
    let named = streams.map_ok(|info| (info.config.name.clone(), info));
    named.try_collect().await.context("list the streams")
}

/// The streams that hold anything, and how many messages.
pub(crate) async fn occupied(url: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let streams = streams(url).await?.into_iter();
    let counts = streams.map(|(name, info)| (name, info.state.messages));
    Ok(counts.filter(|(_, messages)| *messages > 0).collect())
}
