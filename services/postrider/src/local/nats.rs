//! nats-servers of our own, one or a cluster of them: JetStream, synced before it acknowledges.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::process::Command;

use model::ByteSize;

use super::child::Child;
use super::disk;
use super::programs;
use super::stack::free_ports;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);
/// What a server keeps its streams in, below its directory.
const STORE: &str = "jetstream";

/// When a nats-server syncs what it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before it acknowledges: a power cut loses nothing that was accepted.
    Always,
    /// Every two minutes, as nats-server does by itself: for tests that it is refused.
    Default,
}

/// How a server is set up, the same at every start.
#[derive(Debug, Clone)]
struct Setup {
    dir: PathBuf,
    max_file: ByteSize,
    interval: SyncInterval,
    /// Its number in its cluster, and where each node listens for the others.
    cluster: Option<(usize, Vec<SocketAddr>)>,
}

/// A running nats-server.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    setup: Setup,
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
        Self::start_as(dir, interval, None, None).await
    }

    /// The same, with `max_file` for the most it stores, whether its disk has that or not.
    pub async fn start_promising(dir: &Path, max_file: ByteSize) -> anyhow::Result<Self> {
        Self::start_as(dir, SyncInterval::Always, None, Some(max_file)).await
    }

    /// Starts a cluster of `nodes`, each with its data in a directory `node-<number>` below `dir`.
    pub async fn start_cluster(
        dir: &Path,
        interval: SyncInterval,
        nodes: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let routes = free_ports(nodes)?;
        let mut servers = Vec::new();
        for number in 0..nodes {
            let dir = node_dir(dir, nodes, number);
            let cluster = Some((number, routes.clone()));
            servers.push(Self::start_as(&dir, interval, cluster, None).await?);
        }
        Ok(servers)
    }

    async fn start_as(
        dir: &Path,
        interval: SyncInterval,
        cluster: Option<(usize, Vec<SocketAddr>)>,
        max_file: Option<ByteSize>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("find {}", dir.display()))?;
        let store = dir.join(STORE);
        std::fs::create_dir_all(&store).with_context(|| format!("create {}", store.display()))?;
        let setup = Setup {
            max_file: match max_file {
                Some(promised) => promised,
                None => disk::max_file(&store)?,
            },
            dir,
            interval,
            cluster,
        };
        let (child, ports) = launch(&setup, "127.0.0.1:-1", "127.0.0.1:-1").await?;
        let first = |list: Vec<String>| list.into_iter().next().context("nats-server told no port");
        Ok(Self {
            url: first(ports.nats)?,
            monitor: first(ports.monitoring)?,
            child,
            setup,
        })
    }

    /// Kills it, and starts it again on the same data and the same ports: what a machine that dies and comes back does
    /// to its clients.
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.end().await?;
        self.start_again().await
    }

    /// Ends it in order, and starts it again on the same data and the same ports.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.end_in_order().await?;
        self.start_again().await
    }

    /// Ends it in order, to be started again: it has written all that it knows then.
    pub async fn end_in_order(&mut self) -> anyhow::Result<()> {
        self.child.end_in_order(STOP).await?;
        Ok(())
    }

    /// Kills it, to be started again.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        self.child.end().await
    }

    /// Starts it again after it was ended, on the same data and the same ports.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let (listen, http) = (authority(&self.url)?, authority(&self.monitor)?);
        let (child, _) = launch(&self.setup, listen, http).await?;
        self.child = child;
        Ok(())
    }

    /// Lets it store so much from its next start on.
    pub fn set_max_file(&mut self, max_file: ByteSize) {
        self.setup.max_file = max_file;
    }

    /// The most it stores.
    pub fn max_file(&self) -> ByteSize {
        self.setup.max_file
    }

    /// Its name in its cluster.
    pub fn name(&self) -> String {
        self.setup.name()
    }

    /// Where node `number` of `nodes`, started in `dir`, keeps what it stores.
    pub fn store_in(dir: &Path, nodes: usize, number: usize) -> PathBuf {
        node_dir(dir, nodes, number).join(STORE)
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

/// The directory of a node: a single server needs none of its own.
fn node_dir(dir: &Path, nodes: usize, number: usize) -> PathBuf {
    match nodes {
        1 => dir.to_owned(),
        _ => dir.join(format!("node-{number}")),
    }
}

/// Starts a server that listens at these addresses; port -1 is a free one.
async fn launch(setup: &Setup, listen: &str, http: &str) -> anyhow::Result<(Child, Ports)> {
    let dir = &setup.dir;
    let config = dir.join("nats.conf");
    std::fs::write(&config, setup.configuration(listen, http))
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

impl Setup {
    fn name(&self) -> String {
        match &self.cluster {
            Some((number, _)) => format!("postrider-{number}"),
            None => "postrider".to_owned(),
        }
    }

    fn configuration(&self, listen: &str, http: &str) -> String {
        let (name, dir) = (self.name(), self.dir.display());
        let sync = match self.interval {
            SyncInterval::Always => ", sync_interval: always",
            SyncInterval::Default => "",
        };
        format!(
            "server_name: {name}\n\
             listen: \"{listen}\"\n\
             http: \"{http}\"\n\
             ports_file_dir: \"{dir}\"\n\
             # Accepted means synced: without this a power cut loses acknowledged mail.\n\
             jetstream {{ store_dir: \"{dir}/{STORE}\", max_file_store: {}{sync} }}\n\
             {}",
            self.max_file.0,
            self.cluster_section()
        )
    }

    fn cluster_section(&self) -> String {
        let Some((number, routes)) = &self.cluster else {
            return String::new();
        };
        let others: Vec<String> = routes
            .iter()
            .map(|route| format!("\"nats://{route}\""))
            .collect();
        format!(
            "cluster {{ name: postrider, listen: \"{}\", routes: [{}] }}\n",
            routes[*number],
            others.join(", ")
        )
    }
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
