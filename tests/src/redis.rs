//! A word with redis-server, past the product.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const OK: &[u8; 5] = b"+OK\r\n";
const NOTHING: &[u8; 5] = b"$-1\r\n";

/// Makes the redis-server at `url` forget everything.
pub async fn flush_all(url: &str) -> anyhow::Result<()> {
    order(url, "FLUSHALL").await
}

/// Makes the redis-server at `url` drop keys once it holds more than `most`.
pub async fn evict_above(url: &str, most: &str) -> anyhow::Result<()> {
    order(url, &format!("CONFIG SET maxmemory {most}")).await?;
    order(url, "CONFIG SET maxmemory-policy allkeys-lru").await
}

/// Gives `key` that value for `ttl`, and answers whether it had one before: where it had none, it has none.
pub async fn replace(url: &str, key: &str, value: &str, ttl: Duration) -> anyhow::Result<bool> {
    let set = format!("SET {key} {value} XX PX {}", ttl.as_millis());
    let answer = ask(url, &set).await?;
    ensure!(
        answer == *OK || answer == *NOTHING,
        "Redis answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(answer == *OK)
}

async fn order(url: &str, command: &str) -> anyhow::Result<()> {
    let answer = ask(url, command).await?;
    ensure!(
        answer == *OK,
        "Redis answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// The beginning of the answer, which is all of it where it is short.
async fn ask(url: &str, command: &str) -> anyhow::Result<[u8; OK.len()]> {
    let socket = url
        .strip_prefix("redis+unix://")
        .context("redis-server has no socket")?;
    let mut stream = UnixStream::connect(socket)
        .await
        .context("connect to Redis")?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await
        .with_context(|| format!("send {command}"))?;
    let mut answer = [0; OK.len()];
    stream
        .read_exact(&mut answer)
        .await
        .with_context(|| format!("wait for {command}"))?;
    Ok(answer)
}
