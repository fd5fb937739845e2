//! A word with redis-server, past the product.

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const OK: &[u8] = b"+OK\r\n";

/// Makes the redis-server at `url` forget everything.
pub async fn flush_all(url: &str) -> anyhow::Result<()> {
    let socket = url
        .strip_prefix("redis+unix://")
        .context("redis-server has no socket")?;
    let mut stream = UnixStream::connect(socket)
        .await
        .context("connect to Redis")?;
    stream
        .write_all(b"FLUSHALL\r\n")
        .await
        .context("ask Redis to forget")?;
    let mut answer = [0; OK.len()];
    stream
        .read_exact(&mut answer)
        .await
        .context("wait for Redis to forget")?;
    ensure!(
        answer == OK,
        "Redis answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}
