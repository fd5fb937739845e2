//! Pulls the lanes that are this worker's, as workers come and go (ADR 16).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use model::Class;
use queue::{Holds, Lane, Members, Puller, Queue, QueueError};
use runtime::{Shutdown, Tasks};

use crate::config::Config;
use crate::intake::Intake;
use crate::lane;
use crate::sites::SLOW_SHARE;
use crate::window::Window;

/// How long a change of workers settles before lanes move: several often come or go together.
const SETTLE: Duration = Duration::from_millis(300);
/// How often jobs that stay for long make room for others.
const RELIEF: Duration = Duration::from_secs(1);
/// The pause after lanes could not be leased.
const PAUSE: Duration = Duration::from_secs(1);

/// The lanes this worker has, and what it takes to pull them.
pub(crate) struct Leases {
    queue: Queue,
    holds: Holds,
    intake: Arc<Intake>,
    /// Jobs in hand at most, over all lanes.
    window: usize,
    /// Octets in hand at most, over all lanes.
    window_bytes: u64,
    /// The room for what stays in hand for long.
    slow: Window,
    leased: Vec<Lane>,
    /// Ends the pulling of what is leased now.
    pulling: Shutdown,
    tasks: Tasks,
}

impl Leases {
    pub(crate) fn new(
        queue: &Queue,
        holds: Holds,
        intake: Arc<Intake>,
        config: &Config,
        tasks: &Tasks,
    ) -> Self {
        Self {
            queue: queue.clone(),
            holds,
            window: config.window - config.window / SLOW_SHARE,
            window_bytes: config.window_bytes.0 - config.window_bytes.0 / SLOW_SHARE as u64,
            slow: intake.sites.slow(),
            intake,
            leased: Vec::new(),
            pulling: tasks.shutdown().child(),
            tasks: tasks.clone(),
        }
    }

    /// Pulls what is this worker's among `members` until shutdown.
    pub(crate) async fn run(mut self, members: Arc<Members>) -> anyhow::Result<()> {
        let mut alive = members.alive();
        while !self.tasks.shutdown().is_requested() {
            let workers = alive.borrow_and_update().clone();
            let again = match self.lease(members.own(), &workers).await {
                Ok(()) => Duration::MAX,
                Err(error) => {
                    tracing::warn!(%error, "lanes not leased, trying again");
                    PAUSE
                }
            };
            tokio::select! {
                changed = alive.changed() => changed.context("follow the other workers")?,
                () = tokio::time::sleep(again) => {}
                () = self.tasks.shutdown().requested() => break,
            }
            tokio::time::sleep(SETTLE).await;
        }
        members.leave().await;
        Ok(())
    }

    /// Pulls what is `own`'s among `workers`, and nothing else any more. What was pulled stays in hand.
    async fn lease(&mut self, own: &str, workers: &BTreeSet<String>) -> Result<(), QueueError> {
        let leased = self.queue.lanes().leased(own, workers);
        let lanes: Vec<Lane> = leased.into_iter().cloned().collect();
        if lanes == self.leased {
            return Ok(());
        }
        let pullers = self.pullers(&lanes).await?;
        self.pulling.request();
        self.pulling = self.tasks.shutdown().child();
        self.intake.sites.give_back_residents();
        self.pull(pullers);
        let names: Vec<&str> = lanes.iter().map(Lane::key).collect();
        let names = names.join(" ");
        tracing::info!(workers = workers.len(), lanes = names, "lanes leased");
        self.leased = lanes;
        Ok(())
    }

    /// A puller for every stream of `lanes`.
    async fn pullers(&self, lanes: &[Lane]) -> Result<Vec<Puller>, QueueError> {
        let mut pullers = Vec::new();
        for lane in lanes {
            for class in Class::ALL {
                for &stage in lane.stages() {
                    pullers.push(self.queue.puller(lane, class, stage, &self.holds).await?);
                }
            }
        }
        Ok(pullers)
    }

    /// Pulls with all of `pullers`, each with its share of the window, until the lanes are leased anew.
    fn pull(&self, pullers: Vec<Puller>) {
        let streams = pullers.len().max(1);
        let (jobs, octets) = (self.window / streams, self.window_bytes / streams as u64);
        let mut windows = Vec::new();
        for puller in pullers {
            let window = Window::new(jobs, octets);
            windows.push(window.clone());
            let (intake, tasks, end) = (
                Arc::clone(&self.intake),
                self.tasks.clone(),
                self.pulling.clone(),
            );
            self.tasks
                .spawn_vital("pull", lane::run(puller, window, intake, tasks, end));
        }
        let relief = relieve(windows, self.slow.clone(), self.pulling.clone());
        self.tasks.spawn("relieve windows", relief);
    }
}

/// Moves what stays in hand for long out of the windows, every second until `end`.
async fn relieve(windows: Vec<Window>, slow: Window, end: Shutdown) {
    while !end.is_requested() {
        for window in &windows {
            window.relieve(&slow);
        }
        tokio::select! {
            () = end.requested() => {}
            () = tokio::time::sleep(RELIEF) => {}
        }
    }
}
