//! Tasks that have a name and are waited for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::Shutdown;

/// The deadline passed while tasks still ran: their names, each with how many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("still busy at the deadline: {}", .0.iter().map(|(n, c)| format!("{n} ({c})")).collect::<Vec<_>>().join(", "))]
pub struct StillBusy(pub BTreeMap<&'static str, usize>);

/// The tasks of one service.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    shutdown: Shutdown,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Tasks {
    /// No tasks yet. `shutdown` is requested when a vital task fails.
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            tracker: TaskTracker::new(),
            running: Arc::default(),
            shutdown,
            failure: Arc::default(),
        }
    }

    /// The order these tasks obey.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs `future` until it ends by itself. tokio-console tells it from others by where it is called.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let present = Present::enter(name, Arc::clone(&self.running));
        self.tracker.spawn(async move {
            let _present = present;
            future.await
        })
    }

    /// Runs a task without which the service is of no use: its error or panic ends the service.
    #[track_caller]
    pub fn spawn_vital<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let running = self.spawn(name, future);
        let this = self.clone();
        self.spawn("supervisor", async move {
            let failed = match running.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.context(name),
                Err(panic) => anyhow::Error::new(panic).context(name),
            };
            tracing::error!(
                task = name,
                error = format!("{failed:#}"),
                "vital task failed"
            );
            lock(&this.failure).get_or_insert(failed);
            this.shutdown.request();
        });
    }

    /// Waits until every task has ended; after `deadline` answers who has not.
    pub async fn finish(&self, deadline: Duration) -> Result<(), StillBusy> {
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        Err(StillBusy(lock(&self.running).clone()))
    }

    /// The error of the first vital task that failed.
    pub fn failure(&self) -> Option<anyhow::Error> {
        lock(&self.failure).take()
    }
}

/// A task's entry in the list of those running, which survives its panic.
struct Present {
    name: &'static str,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Present {
    fn enter(name: &'static str, running: Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *lock(&running).entry(name).or_default() += 1;
        Self { name, running }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_still_busy_at_the_deadline_is_named() {
        let tasks = Tasks::new(Shutdown::default());
        tasks.spawn("quick", async {});
        tasks.spawn("stuck", std::future::pending::<()>());
        let busy = tasks.finish(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(busy.to_string(), "still busy at the deadline: stuck (1)");
    }

    #[tokio::test]
    async fn a_vital_task_that_fails_ends_the_service_with_its_error() {
        let tasks = Tasks::new(Shutdown::default());
        tasks.spawn_vital("listener", async { anyhow::bail!("address in use") });
        tasks.shutdown().requested().await;
        assert_eq!(
            format!("{:#}", tasks.failure().unwrap()),
            "listener: address in use"
        );
        assert_eq!(tasks.finish(Duration::from_secs(1)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_ends_the_service() {
        let tasks = Tasks::new(Shutdown::default());
        tasks.spawn_vital("listener", async { panic!("no") });
        tasks.shutdown().requested().await;
        assert!(tasks.failure().is_some());
    }
}
