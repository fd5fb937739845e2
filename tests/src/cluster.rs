//! A cluster of real processes that lives as long as its test.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mailsim::ledger::{self, Entry};
use model::ByteSize;
use postrider::config::{Nats, RawConfig, RawNats};
use postrider::local::{Child, NatsServer, Service, Stack, StackOptions, SyncInterval};
use queue::{Lane, LaneMap};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Api, Arrivals, PATIENCE, Verbs, eventually, logs, tools, world};

/// Clusters at once. One keeps two cores busy; the semaphore is fair, so no test waits for ever.
static TURNS: Semaphore = Semaphore::const_new(1);

/// How a test wants its cluster.
#[derive(Clone)]
pub struct Setup {
    program: PathBuf,
    tenants: Vec<String>,
    config: RawConfig,
    allowed: Vec<&'static str>,
    may_say_anything: bool,
    sync: SyncInterval,
    nodes: usize,
    stores: Vec<PathBuf>,
    max_file: Option<ByteSize>,
}

impl Setup {
    /// One tenant and [`world`], run by the program at `program`.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.into(),
            tenants: vec!["acme".into()],
            config: world(),
            allowed: Vec::new(),
            may_say_anything: false,
            sync: SyncInterval::Always,
            nodes: 1,
            stores: Vec::new(),
            max_file: None,
        }
    }

    /// Changes the configuration file.
    pub fn configured(mut self, change: impl FnOnce(&mut RawConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds a tenant.
    pub fn tenant(mut self, name: &str) -> Self {
        self.tenants.push(name.into());
        self
    }

    /// Announces a WARN or ERROR that the scenario provokes, by its message.
    pub fn allowing(mut self, message: &'static str) -> Self {
        self.allowed.push(message);
        self
    }

    /// Leaves the logs unread: the scenario breaks more than can be announced.
    pub fn saying_anything(mut self) -> Self {
        self.may_say_anything = true;
        self
    }

    /// Three nats-servers, with a copy of everything on each. Where their power is cut they are to store on ordered disks.
    pub fn on_three_nodes(mut self) -> Self {
        self.nodes = 3;
        self.config.nats.ordered_disks = true;
        self
    }

    /// Directories in which the nats-servers are to keep what they store, one for each.
    pub fn storing_in(mut self, stores: Vec<PathBuf>) -> Self {
        self.stores = stores;
        self
    }

    /// A nats-server whose `max_file_store` is this, whatever its disk has.
    pub fn storing_at_most(mut self, max_file: ByteSize) -> Self {
        self.max_file = Some(max_file);
        self
    }

    /// A nats-server that syncs when it likes.
    pub fn syncing_lazily(mut self) -> Self {
        self.sync = SyncInterval::Default;
        self
    }

    /// Starts the servers and the simulator, when it is this test's turn.
    pub async fn start(self) -> anyhow::Result<Cluster> {
        let turn = TURNS.acquire().await.context("wait for a turn")?;
        let mut cluster = self.launch().await?;
        cluster.turn = Some(turn);
        Ok(cluster)
    }

    async fn launch(self) -> anyhow::Result<Cluster> {
        tools::install().await?;
        let dir = tempfile::Builder::new().prefix("postrider-e2e-").tempdir();
        let dir = dir.context("make a directory")?;
        let options = StackOptions {
            program: self.program.clone(),
            dir: dir.path().to_owned(),
            tenants: self.tenants.clone(),
            config: self.config.clone(),
        };
        let nats_dir = dir.path().join("nats");
        let stack = match self.start_nats(&nats_dir).await {
            Ok(nats) => Stack::start_on(nats, options).await,
            Err(error) => Err(error),
        };
        let stack = stack.inspect_err(|_| eprint!("{}", logs::tails(dir.path())))?;
        Ok(Cluster {
            stack: Some(stack),
            program: self.program,
            lanes: lane_map(&self.config.nats)?,
            allowed: self.allowed,
            may_say_anything: self.may_say_anything,
            dir,
            turn: None,
        })
    }

    /// The same with one ingest service and `workers` workers, which have shared out the lanes.
    pub async fn start_with(self, workers: usize) -> anyhow::Result<Cluster> {
        let mut cluster = self.start().await?;
        cluster.start_services(workers).await?;
        Ok(cluster)
    }

    /// The same twice, side by side, for comparisons: what the machine does besides, it does to both.
    pub async fn start_pair(self, workers: usize) -> anyhow::Result<(Cluster, Cluster)> {
        let first = self.clone().start_with(workers).await?;
        let mut second = self.launch().await?;
        second.start_services(workers).await?;
        Ok((first, second))
    }

    async fn start_nats(&self, dir: &Path) -> anyhow::Result<Vec<NatsServer>> {
        for (number, store) in self.stores.iter().enumerate() {
            let link = NatsServer::store_in(dir, self.nodes, number);
            let parent = link.parent().context("a store lies in a directory")?;
            std::fs::create_dir_all(parent).context("make the server's directory")?;
            std::os::unix::fs::symlink(store, &link).context("point to the store")?;
        }
        if self.nodes > 1 {
            return NatsServer::start_cluster(dir, self.sync, self.nodes).await;
        }
        let server = match self.max_file {
            Some(max_file) => NatsServer::start_promising(dir, max_file).await?,
            None => NatsServer::start_syncing(dir, self.sync).await?,
        };
        Ok(vec![server])
    }
}

/// A running cluster. Dropped without [`finish`](Self::finish), it shows its logs and keeps them.
pub struct Cluster {
    stack: Option<Stack>,
    program: PathBuf,
    lanes: LaneMap,
    allowed: Vec<&'static str>,
    may_say_anything: bool,
    dir: TempDir,
    /// None where another cluster of the same test has it.
    turn: Option<SemaphorePermit<'static>>,
}

impl Cluster {
    async fn start_services(&mut self, workers: usize) -> anyhow::Result<()> {
        let stack = self.stack()?;
        stack.start_ingest().await?;
        let workers: Vec<String> = (1..=workers)
            .map(|number| format!("worker-{number}"))
            .collect();
        for worker in &workers {
            stack.start_worker(worker)?;
        }
        if workers.is_empty() {
            return Ok(());
        }
        self.shared_out(&workers, PATIENCE).await
    }

    /// The processes.
    pub fn stack(&mut self) -> anyhow::Result<&mut Stack> {
        self.stack.as_mut().context("the cluster has been stopped")
    }

    fn running(&self) -> anyhow::Result<&Stack> {
        self.stack.as_ref().context("the cluster has been stopped")
    }

    /// The API as tenant number `tenant` calls it.
    pub fn api(&self, tenant: usize) -> anyhow::Result<Api> {
        Api::anonymous(&self.running()?.url())?.with_key(self.key(tenant)?)
    }

    /// The API as a stranger calls it.
    pub fn anonymous(&self) -> anyhow::Result<Api> {
        Api::anonymous(&self.running()?.url())
    }

    /// The client verbs of the first tenant.
    pub fn verbs(&self) -> anyhow::Result<Verbs> {
        self.verbs_of(0)
    }

    /// The client verbs of tenant number `tenant`.
    pub fn verbs_of(&self, tenant: usize) -> anyhow::Result<Verbs> {
        Ok(Verbs {
            program: self.program.clone(),
            server: self.running()?.url(),
            key: self.key(tenant)?.to_owned(),
        })
    }

    /// Everything the product needs, by name, with its process: servers and services, and not the simulator.
    pub fn processes(&self) -> anyhow::Result<Vec<(&str, u32)>> {
        let children = self.running()?.processes();
        Ok(children
            .filter_map(|child| Some((child.name(), child.pid()?)))
            .collect())
    }

    fn key(&self, tenant: usize) -> anyhow::Result<&str> {
        let key = self.running()?.keys().get(tenant);
        key.map(String::as_str).context("no such tenant")
    }

    /// The URL of the first nats-server.
    pub fn nats_url(&self) -> anyhow::Result<&str> {
        let first = self.running()?.nats().first();
        Ok(&first.context("no nats-server runs")?.url)
    }

    /// A file for the test's own use.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the simulator has decided so far; nothing before its first decision.
    pub fn ledger(&self) -> anyhow::Result<Vec<Entry>> {
        let file = self.running()?.ledger();
        if !file.exists() {
            return Ok(Vec::new());
        }
        ledger::read(&file).context("read the ledger")
    }

    /// What the simulator decides from now on.
    pub fn arrivals(&self) -> anyhow::Result<Arrivals> {
        Arrivals::after_now(self.running()?.ledger())
    }

    /// The text of a service's log.
    pub fn log(&self, name: &str) -> anyhow::Result<String> {
        let file = self.running()?.log(name);
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    }

    /// Waits until `text` stands in a service's log.
    pub async fn logged(&self, name: &str, text: &str) -> anyhow::Result<()> {
        eventually(&format!("{name} logs {text:?}"), PATIENCE, async || {
            Ok(self.log(name)?.contains(text).then_some(()))
        })
        .await
    }

    /// Changes the configuration file; what runs keeps to what it has read.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut RawConfig)) -> anyhow::Result<()> {
        let config = self.stack()?.reconfigure(change)?;
        self.lanes = lane_map(&config.nats)?;
        Ok(())
    }

    /// Waits until `workers` have shared out the lanes: each lane has one, or, where there are more workers than hashed or
    /// overflow lanes, each worker one of these.
    pub async fn shared_out(
        &self,
        workers: &[impl AsRef<str> + Debug],
        patience: Duration,
    ) -> anyhow::Result<()> {
        let what = format!("{workers:?} share out the lanes");
        let (own, shared): (Vec<&Lane>, Vec<&Lane>) =
            self.lanes.lanes().partition(|lane| lane.owner().is_some());
        let overflow = shared.iter().filter(|lane| lane.is_overflow()).count();
        let hashed = shared.len() - overflow;
        let pulled = hashed.max(workers.len()) + overflow.max(workers.len()) + own.len();
        eventually(&what, patience, async || {
            let mut all = Vec::new();
            for worker in workers {
                let leased = self.leased(worker.as_ref())?;
                // One that came first has them all until another comes.
                if leased.is_empty() {
                    return Ok(None);
                }
                all.extend(leased);
            }
            let is_shared_out = all.len() == pulled;
            all.sort();
            all.dedup();
            Ok((is_shared_out && all.len() == shared.len() + own.len()).then_some(()))
        })
        .await
    }

    /// The lanes a worker has by its own last word.
    pub fn leased(&self, worker: &str) -> anyhow::Result<Vec<String>> {
        let log = self.log(worker)?;
        let Some(line) = log.lines().rfind(|line| line.contains("lanes leased")) else {
            return Ok(Vec::new());
        };
        let line: Value = serde_json::from_str(line).context("read a log line")?;
        let lanes = line["lanes"].as_str().context("lanes are named")?;
        Ok(lanes.split(' ').map(String::from).collect())
    }

    /// Starts a service with its configuration overridden.
    pub fn start_service(&mut self, service: &Service<'_>) -> anyhow::Result<()> {
        self.stack()?.start_service(service)
    }

    /// Waits until a service has ended by itself, and answers its exit code.
    pub async fn ends(&mut self, name: &str) -> anyhow::Result<Option<i32>> {
        let mut service = self.stack()?.take(name)?;
        eventually(&format!("{name} ends"), PATIENCE, async || {
            Ok(service.has_ended().then_some(()))
        })
        .await?;
        Ok(service.stop(Duration::ZERO).await?.code())
    }

    /// Kills a service: nothing is flushed, nothing given back.
    pub async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.stack()?.take(name)?.kill().await
    }

    /// Takes a service out of the cluster, to be stopped by the test.
    pub fn take(&mut self, name: &str) -> anyhow::Result<Child> {
        self.stack()?.take(name)
    }

    /// Stops everything in order and checks the logs.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        if let Some(name) = self.stack()?.first_ended() {
            bail!("{name} ended although nobody asked it to");
        }
        let stack = self.stack.take().context("the cluster has been stopped")?;
        let checked = match stack.stop().await {
            Ok(()) => self.check_logs(),
            Err(error) => Err(error.context("stop the cluster")),
        };
        if checked.is_err() {
            self.show_logs();
        }
        checked
    }

    fn check_logs(&self) -> anyhow::Result<()> {
        if self.may_say_anything {
            return Ok(());
        }
        let mut unexpected = Vec::new();
        for file in logs::files(self.dir.path())? {
            unexpected.extend(logs::unexpected(&file, &self.allowed)?);
        }
        ensure!(
            unexpected.is_empty(),
            "the logs hold what they should not:\n{}",
            unexpected.join("\n")
        );
        Ok(())
    }

    fn show_logs(&mut self) {
        eprint!("{}", logs::tails(self.dir.path()));
        self.dir.disable_cleanup(true);
    }
}

fn lane_map(raw: &RawNats) -> anyhow::Result<LaneMap> {
    let nats = Nats::try_from(raw.clone()).context("read the section nats")?;
    let settings = nats.settings(Duration::ZERO);
    Ok(LaneMap::new(
        &settings.egress_group,
        settings.hashed_lanes,
        &settings.own_lanes,
    ))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.stack.is_some() {
            self.show_logs();
        }
    }
}
