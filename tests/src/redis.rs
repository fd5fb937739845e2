//! A word with redis-server, past the product.

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const OK: &[u8] = b"+OK\r\n";

/// Makes the redis-server at `url` forget everything.
pub async fn flush_all(url: &str) -> anyhow::Result<()> {
    order(url, "FLUSHALL").await
}

/// Makes the redis-server at `url` drop keys once it holds more than `most`.
pub async fn evict_above(url: &str, most: &str) -> anyhow::Result<()> {
    order(url, &format!("CONFIG SET maxmemory {most}")).await?;
    order(url, "CONFIG SET maxmemory-policy allkeys-lru").await
}

async fn order(url: &str, command: &str) -> anyhow::Result<()> {
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
    ensure!(
        answer == OK,
        "Redis answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}
