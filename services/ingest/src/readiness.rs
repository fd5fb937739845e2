//! Whether messages may be accepted at this moment: only while the queue would keep them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use queue::Queue;
use runtime::Shutdown;
use tonic::{Code, Status};
use tonic_health::server::HealthReporter;

use crate::violations::status_with_retry;

/// How often a queue that failed its check is asked again.
const RECHECK: Duration = Duration::from_secs(5);

/// Read by every call, written by [`watch`].
#[derive(Debug, Clone)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Ready: the queue was checked when the process started.
    pub(crate) fn ready() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Refuses where a message could be accepted and lost.
    pub(crate) fn check(&self) -> Result<(), Status> {
        if self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let problem = "the queue would not keep messages: its servers were found without `sync_interval: always`; \
                       see the log";
        Err(status_with_retry(
            Code::Unavailable,
            "QUEUE_NOT_DURABLE",
            problem,
            RECHECK,
        ))
    }
}

/// Asks the servers again whenever the connection was made anew, and tells the health service.
pub(crate) async fn watch(
    queue: Queue,
    readiness: Readiness,
    health: HealthReporter,
    shutdown: Shutdown,
) {
    let mut connections = queue.connections();
    connections.mark_unchanged();
    loop {
        let is_ready = readiness.0.load(Ordering::Relaxed);
        tokio::select! {
            () = shutdown.requested() => break,
            changed = connections.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(RECHECK), if !is_ready => {}
        }
        let durable = queue.check_durability().await;
        if let Err(error) = &durable {
            tracing::error!(%error, "queue is not durable, accepting nothing");
        }
        readiness.0.store(durable.is_ok(), Ordering::Relaxed);
        report(&health, durable.is_ok()).await;
    }
    report(&health, false).await;
}

async fn report(health: &HealthReporter, is_ready: bool) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    health
        .set_service_status("", if is_ready { Serving } else { NotServing })
        .await;
    health
        .set_service_status(
            "postrider.v1.Submission",
            if is_ready { Serving } else { NotServing },
        )
        .await;
}
