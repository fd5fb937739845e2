//! A worker of a test: a throttle and its heartbeat.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use model::{Class, Path, Provider};
use throttle::{Limits, Mode, Party, Settings, SlotGuard, Throttle, Wait};
use tokio::task::JoinHandle;

use crate::server::RedisServer;

/// Short enough to see slots expire.
pub(crate) const SLOT_TTL: Duration = Duration::from_millis(900);

pub(crate) struct Worker {
    throttle: Throttle,
    heartbeat: JoinHandle<()>,
}

impl Worker {
    /// A worker that has found the others.
    pub(crate) async fn join(server: &RedisServer, name: &str) -> Self {
        let worker = Self::launch(server, settings(name));
        worker.reach(Mode::Shared).await;
        worker
    }

    #[allow(clippy::disallowed_methods, reason = "a test runs its own tasks")]
    pub(crate) fn launch(server: &RedisServer, settings: Settings) -> Self {
        let (throttle, heartbeat) = Throttle::connect(&server.url(), settings).unwrap();
        Self {
            throttle,
            heartbeat: tokio::spawn(heartbeat),
        }
    }

    pub(crate) async fn reach(&self, mode: Mode) {
        let mut modes = self.watch_mode();
        let reached = modes.wait_for(|current| *current == mode);
        tokio::time::timeout(Duration::from_secs(10), reached)
            .await
            .unwrap()
            .unwrap();
    }

    /// For questions of a party.
    pub(crate) fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// A slot on `path` for a party of its own, with bulk.
    pub(crate) async fn open(&self, path: &Path, limits: &Limits) -> Result<SlotGuard, Wait> {
        self.throttle.open(path, limits, &bulk()).await
    }

    /// A token for bulk.
    pub(crate) async fn take(&self, path: &Path, limits: &Limits) -> Result<(), Wait> {
        self.throttle.take(path, limits, &bulk()).await
    }

    /// The same, however long it takes.
    pub(crate) async fn token(&self, path: &Path, limits: &Limits) {
        self.throttle.token(path, limits, &bulk()).await;
    }

    /// A slot on `path`, however long it takes.
    pub(crate) async fn open_soon(&self, path: &Path, limits: &Limits) -> SlotGuard {
        loop {
            match self.open(path, limits).await {
                Ok(slot) => return slot,
                Err(wait) => tokio::time::sleep(wait.retry_after).await,
            }
        }
    }

    /// Its process dies: no more heartbeats, and no goodbye.
    pub(crate) fn die(&self) {
        self.heartbeat.abort();
    }

    /// Leaves in good order.
    pub(crate) async fn leave(self) {
        drop(self.throttle);
        self.heartbeat.await.unwrap();
    }
}

impl Deref for Worker {
    type Target = Throttle;

    fn deref(&self) -> &Throttle {
        &self.throttle
    }
}

/// A party that always has mail of this class.
struct Has(Class);

impl Party for Has {
    fn next_class(&self) -> Option<Class> {
        Some(self.0)
    }
}

/// A party that has bulk and no end of it.
pub(crate) fn bulk() -> Arc<dyn Party> {
    Arc::new(Has(Class::Bulk))
}

/// The same with transactional mail.
pub(crate) fn urgent() -> Arc<dyn Party> {
    Arc::new(Has(Class::Transactional))
}

pub(crate) fn settings(name: &str) -> Settings {
    Settings {
        slot_ttl: SLOT_TTL,
        return_jitter: Duration::from_millis(50),
        ..Settings::for_worker("test", name)
    }
}

pub(crate) fn path(provider: &str) -> Path {
    Path {
        provider: Provider::new(provider),
        source: "mta-1".parse().unwrap(),
    }
}

pub(crate) fn limits(rate: &str, connections: u32) -> Limits {
    Limits::new(Some(rate.parse().unwrap()), connections)
}
