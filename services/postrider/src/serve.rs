//! Runs services until a signal ends them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use delivery::Delivery;
use ingest::Ingest;
use mailsim::Mailsim;
use model::SystemClock;
use queue::Queue;
use runtime::{Shutdown, Tasks};

use crate::cli::Additions;
use crate::config::Config;
use crate::deps;
use crate::local::Embedded;

/// Flags of `all`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AllArgs {
    /// Start a nats-server and a redis-server of its own, as child processes on loopback.
    #[arg(long)]
    pub(crate) embedded: bool,

    /// Where the embedded servers keep their data.
    #[arg(long, value_name = "DIR", default_value = "postrider-data")]
    pub(crate) data_dir: PathBuf,

    /// Also run the simulator, and send all mail to it: nothing leaves this machine.
    #[arg(long)]
    pub(crate) mailsim: bool,
}

/// How long what runs beside the services may take to end once they have.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs the ingest service.
pub(crate) async fn ingest(config: Config) -> anyhow::Result<()> {
    let shutdown = obey_signals();
    let queue = deps::queue(&config, &shutdown).await?;
    let deps = deps::ingest(&config, &queue).await?;
    let ended = Ingest::bind(config.ingest, deps).await?.run(shutdown).await;
    queue.close().await;
    ended
}

/// Runs a delivery worker.
pub(crate) async fn delivery(config: Config, additions: Additions) -> anyhow::Result<()> {
    let shutdown = obey_signals();
    let background = Tasks::new(Shutdown::default());
    let queue = deps::queue(&config, &shutdown).await?;
    let deps = deps::delivery(&config, &queue, &background, additions.hook).await?;
    let ended = Delivery::prepare(config.delivery, deps, &deps::host_name())?
        .run(shutdown)
        .await;
    close(&queue, &background).await;
    ended
}

/// Runs the simulator.
pub(crate) async fn mailsim(config: Config) -> anyhow::Result<()> {
    let shutdown = obey_signals();
    Mailsim::bind(config.mailsim, Arc::new(SystemClock))
        .await?
        .run(shutdown)
        .await
}

/// Runs everything in this process, as separate tasks that one signal ends.
pub(crate) async fn all(
    mut config: Config,
    args: AllArgs,
    additions: Additions,
) -> anyhow::Result<()> {
    let shutdown = obey_signals();
    let background = Tasks::new(Shutdown::default());
    let embedded = match args.embedded {
        true => Some(Embedded::start(&args.data_dir, &mut config).await?),
        false => None,
    };
    let services = Tasks::new(shutdown.clone());
    if args.mailsim {
        let mailsim = Mailsim::bind(config.mailsim.clone(), Arc::new(SystemClock)).await?;
        config.delivery.dns_servers = vec![mailsim.dns_addr()];
        config.delivery.mx_port = mailsim.mx_port();
        config.delivery.dialable = vec!["127.0.0.0/8".parse().context("read the loopback range")?];
        let until = background.shutdown().clone();
        background.spawn_vital("mailsim", mailsim.run(until));
    }
    let queue = deps::queue(&config, &shutdown).await?;
    let ingest_deps = deps::ingest(&config, &queue).await?;
    let ingest = Ingest::bind(config.ingest.clone(), ingest_deps).await?;
    let delivery_deps = deps::delivery(&config, &queue, &background, additions.hook).await?;
    let delivery = Delivery::prepare(config.delivery.clone(), delivery_deps, &deps::host_name())?;
    services.spawn_vital("ingest", ingest.run(shutdown.clone()));
    services.spawn_vital("delivery", delivery.run(shutdown.clone()));
    shutdown.requested().await;
    if let Err(busy) = services
        .finish(config.delivery.drain_deadline + LAST_WORDS)
        .await
    {
        tracing::warn!(%busy, "services stopped at their deadline");
    }
    close(&queue, &background).await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    services.failure().map_or(Ok(()), Err)
}

/// Ends what runs beside the services, which still needs the queue, and then the queue.
async fn close(queue: &Queue, background: &Tasks) {
    background.shutdown().request();
    if let Err(busy) = background.finish(LAST_WORDS).await {
        tracing::debug!(%busy, "background tasks ended with the process");
    }
    queue.close().await;
}

#[allow(
    clippy::disallowed_methods,
    reason = "lives as long as the process and ends it: nobody waits for it"
)]
fn obey_signals() -> Shutdown {
    let shutdown = Shutdown::default();
    let ordered = shutdown.clone();
    tokio::spawn(async move {
        if let Err(error) = runtime::on_signal(ordered).await {
            tracing::error!(%error, "signals cannot be heard, stop the process with SIGKILL");
        }
    });
    shutdown
}
