//! A redis-server of our own, on a socket in its directory; keeps nothing on disk, because nothing in it must last.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::child::Child;
use super::programs;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
/// The longest path a socket can have (sockaddr_un).
const SOCKET_PATH_LIMIT: usize = 107;

/// A running redis-server.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    /// Where clients connect: `redis+unix://path`.
    pub url: String,
}

impl RedisServer {
    /// Starts one with its socket in `dir`.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("find {}", dir.display()))?;
        let socket = dir.join("redis.sock");
        if socket.as_os_str().len() > SOCKET_PATH_LIMIT {
            bail!(
                "{} is too long for a socket; use a directory with a shorter path",
                socket.display()
            );
        }
        let mut command = Command::new(programs::redis_server()?);
        command
            .arg("--port")
            .arg("0")
            .arg("--unixsocket")
            .arg(&socket);
        command
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--maxmemory-policy",
                "noeviction",
            ])
            .arg("--dir")
            .arg(&dir);
        let mut child = Child::start("redis-server", &mut command, &dir.join("redis.log"))?;
        wait_for(&socket, &mut child).await?;
        Ok(Self {
            url: format!("redis+unix://{}", socket.display()),
            child,
        })
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Ends it in order.
    pub async fn stop(self) {
        if let Err(error) = self.child.stop(STOP).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "redis-server not stopped in order"
            );
        }
    }

    /// Kills it.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.child.kill().await
    }
}

async fn wait_for(socket: &Path, child: &mut Child) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + START;
    while UnixStream::connect(socket).await.is_err() {
        if child.has_ended() || tokio::time::Instant::now() > deadline {
            bail!(
                "redis-server did not start; see redis.log beside {}",
                socket.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
