//! What is measured.

mod burst;
mod domains;
mod idle;
mod ingest;
mod scale;
mod throughput;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use mailsim::config::RawProvider;

use crate::report::Table;

/// The scenarios, in the order they are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One nats-server beside Postfix: messages end to end, and what one costs.
    Single,
    /// Three nats-servers beside Postfix.
    Cluster,
    /// 100,000 domains over 2,000 sets of exchangers, and one domain.
    Domains,
    /// 100,000 deferred jobs that come due within a minute.
    Burst,
    /// One message at a time, and nothing else to do.
    Idle,
    /// Accepting alone: by stream and by batch, in three sizes.
    Ingest,
    /// One worker, two and four, against exchangers far away.
    Scale,
}

impl Scenario {
    /// Those of `wanted`, or all.
    pub(crate) fn all(wanted: &[Self]) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|scenario| wanted.is_empty() || wanted.contains(scenario))
            .collect()
    }

    /// Runs it and adds its lines to `table`.
    pub(crate) async fn run(self, bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
        match self {
            Self::Single => throughput::run(bench, 1, table).await,
            Self::Cluster => throughput::run(bench, 3, table).await,
            Self::Domains => domains::run(bench, table).await,
            Self::Burst => burst::run(bench, table).await,
            Self::Idle => idle::run(bench, table).await,
            Self::Ingest => ingest::run(bench, table).await,
            Self::Scale => scale::run(bench, table).await,
        }
    }
}

/// Messages that go before those that are measured: connections are made, caches filled.
pub(crate) const WARM_UP: usize = 1000;

/// What all scenarios share.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    /// Where data and results go.
    pub(crate) dir: PathBuf,
    /// Runs of each scenario.
    pub(crate) runs: usize,
    /// One part in so many of the messages a full run sends.
    pub(crate) part: usize,
    /// Whether Postfix is left out.
    pub(crate) alone: bool,
    /// Whether what is beside Postfix stands on a disk of its own that keeps the order.
    pub(crate) ordered_disk: bool,
}

impl Bench {
    /// An empty directory for one run.
    pub(crate) fn fresh(&self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join("run");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        dir.canonicalize()
            .with_context(|| format!("find {}", dir.display()))
    }
}

/// `count` providers, each with its own set of exchangers: "p0.bench.example" and all below it, and so on.
pub(crate) fn providers(count: usize) -> Vec<RawProvider> {
    let provider = |number: usize| RawProvider {
        name: format!("p{number}"),
        domains: vec![format!("p{number}.bench.example")],
        mx_hosts: vec![format!("mx.p{number}.bench-hosts.example")],
        ..RawProvider::default()
    };
    (0..count).map(provider).collect()
}
