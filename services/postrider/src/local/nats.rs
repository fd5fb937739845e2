//! A nats-server of our own: one node, JetStream, synced before it acknowledges.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::process::Command;

use super::child::Child;
use super::programs;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);

/// When a nats-server syncs what it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before it acknowledges: a power cut loses nothing that was accepted.
    Always,
    /// Every two minutes, as nats-server does by itself: for tests that it is refused.
    Default,
}

/// A running nats-server.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    dir: PathBuf,
    interval: SyncInterval,
    /// Where clients connect: `nats://host:port`.
    pub url: String,
    /// Where it tells about itself: `http://host:port`.
    pub monitor: String,
}

/// What nats-server writes into its ports file.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

impl NatsServer {
    /// Starts one with its data in `dir`, on free ports of loopback.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_syncing(dir, SyncInterval::Always).await
    }

    /// The same, with a choice of when it syncs.
    pub async fn start_syncing(dir: &Path, interval: SyncInterval) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("find {}", dir.display()))?;
        let (child, ports) = launch(&dir, interval, "127.0.0.1:-1", "127.0.0.1:-1").await?;
        let first = |list: Vec<String>| list.into_iter().next().context("nats-server told no port");
        Ok(Self {
            url: first(ports.nats)?,
            monitor: first(ports.monitoring)?,
            child,
            dir,
            interval,
        })
    }

    /// Kills it, and starts it again on the same data and the same ports: what a machine that dies and comes back does
    /// to its clients.
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.child.end().await?;
        let (listen, http) = (authority(&self.url)?, authority(&self.monitor)?);
        let (child, _) = launch(&self.dir, self.interval, listen, http).await?;
        self.child = child;
        Ok(())
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
                "nats-server not stopped in order"
            );
        }
    }

    /// Kills it: nothing is flushed.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.child.kill().await
    }
}

/// Starts a server that listens at these addresses; port -1 is a free one.
async fn launch(
    dir: &Path,
    interval: SyncInterval,
    listen: &str,
    http: &str,
) -> anyhow::Result<(Child, Ports)> {
    let config = dir.join("nats.conf");
    std::fs::write(&config, configuration(dir, interval, listen, http))
        .context("write the configuration of nats-server")?;
    let mut command = Command::new(programs::nats_server()?);
    let mut child = Child::start(
        "nats-server",
        command.arg("-c").arg(&config),
        &dir.join("nats.log"),
    )?;
    let ports = wait_for_ports(dir, &mut child).await?;
    Ok((child, ports))
}

/// The `host:port` of a URL.
fn authority(url: &str) -> anyhow::Result<&str> {
    let (_, authority) = url.split_once("://").context("read the server's URL")?;
    Ok(authority)
}

fn configuration(dir: &Path, interval: SyncInterval, listen: &str, http: &str) -> String {
    let dir = dir.display();
    let sync = match interval {
        SyncInterval::Always => ", sync_interval: always",
        SyncInterval::Default => "",
    };
    format!(
        "server_name: postrider\n\
         listen: \"{listen}\"\n\
         http: \"{http}\"\n\
         ports_file_dir: \"{dir}\"\n\
         # Accepted means synced: without this a power cut loses acknowledged mail.\n\
         jetstream {{ store_dir: \"{dir}/jetstream\"{sync} }}\n"
    )
}

/// Waits until the server has written where it listens.
async fn wait_for_ports(dir: &Path, child: &mut Child) -> anyhow::Result<Ports> {
    let file = ports_file(dir, child).context("nats-server ended at once")?;
    let deadline = tokio::time::Instant::now() + START;
    loop {
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Ok(ports) = serde_json::from_str(&text)
        {
            return Ok(ports);
        }
        if child.has_ended() || tokio::time::Instant::now() > deadline {
            bail!(
                "nats-server did not start; see {}",
                dir.join("nats.log").display()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ports_file(dir: &Path, child: &Child) -> Option<PathBuf> {
    Some(dir.join(format!("nats-server_{}.ports", child.pid()?)))
}
