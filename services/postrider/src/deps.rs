//! Connects a service to what it works with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use history::History;
use model::SystemClock;
use queue::{Queue, SetupError};
use runtime::{Shutdown, Tasks};
use throttle::Throttle;

use crate::config::Config;

/// How long a start waits for the queue before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// A queue that is connected, durable and set up.
pub(crate) async fn queue(config: &Config, shutdown: &Shutdown) -> anyhow::Result<Queue> {
    let settings = config.nats.settings(config.ingest.longest_stay());
    let queue = patiently(shutdown, || Queue::connect(settings.clone())).await?;
    let condition = patiently(shutdown, || queue.check()).await?;
    queue
        .check_budget(&condition)
        .context("prepare the queue")?;
    if let Some(error) = condition.unasked {
        tracing::warn!(%error, "not every nats-server could be asked whether it syncs");
    }
    if config.nats.is_lazy() {
        tracing::warn!("nats.sync is allow-lazy: a power cut can lose accepted mail");
    }
    patiently(shutdown, || queue.set_up()).await?;
    Ok(queue)
}

/// Tries until it works; a server that would lose mail is refused at once.
async fn patiently<T, F, Trying>(shutdown: &Shutdown, attempt: F) -> anyhow::Result<T>
where
    F: Fn() -> Trying,
    Trying: Future<Output = Result<T, SetupError>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let hopeless = error.is_not_durable()
            || matches!(
                error,
                SetupError::OrphanedLane { .. } | SetupError::FewerReplicas { .. }
            );
        if hopeless || shutdown.is_requested() || tokio::time::Instant::now() >= deadline {
            return Err(anyhow::Error::new(error).context("prepare the queue"));
        }
        tracing::warn!(%error, "queue not ready, trying again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What Redis remembers. A Redis that is away is not waited for; one that would forget markers is refused.
async fn history(config: &Config) -> anyhow::Result<History> {
    let settings = history::Settings {
        retention: config.redis.retention,
        ..history::Settings::for_cell(config.redis.cell.clone())
    };
    let history = History::connect(&config.redis.url, settings).context("use redis.url")?;
    match history.eviction().await {
        Ok(None) => {}
        Ok(Some(policy)) => bail!(
            "the Redis at redis.url drops keys when its memory is full (maxmemory-policy is {policy}): mail would be sent \
             twice and limits be exceeded; set its maxmemory-policy to noeviction"
        ),
        Err(error) => tracing::debug!(%error, "redis not asked whether it evicts"),
    }
    Ok(history)
}

/// The limits all workers share, with the heartbeat running in `tasks`.
pub(crate) fn throttle(config: &Config, tasks: &Tasks) -> anyhow::Result<Throttle> {
    let worker = format!("{}-{}", host_name(), std::process::id());
    let settings = throttle::Settings::for_worker(config.redis.cell.clone(), worker);
    let (throttle, heartbeat) =
        Throttle::connect(&config.redis.url, settings).context("use redis.url")?;
    tasks.spawn("throttle heartbeat", heartbeat);
    Ok(throttle)
}

/// What an ingest service works with.
pub(crate) async fn ingest(config: &Config, queue: &Queue) -> anyhow::Result<ingest::Deps> {
    Ok(ingest::Deps {
        queue: queue.clone(),
        history: history(config).await?,
        clock: Arc::new(SystemClock),
    })
}

/// What a delivery worker works with.
pub(crate) async fn delivery(
    config: &Config,
    queue: &Queue,
    tasks: &Tasks,
    hook: Option<Arc<dyn delivery::Hook>>,
) -> anyhow::Result<delivery::Deps> {
    Ok(delivery::Deps {
        queue: queue.clone(),
        history: history(config).await?,
        throttle: throttle(config, tasks)?,
        clock: Arc::new(SystemClock),
        hook,
    })
}

/// This machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
