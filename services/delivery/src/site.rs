//! Jobs that go to the same set of mail exchangers, and how many connections serve them.
//!
//! Domains with the same MX host set share a site, and so its connections; the provider's limits hold over all of its
//! sites. A site exists while it has jobs or connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Path;
use routing::Route;
use runtime::Tasks;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{LimitTable, Limits};
use crate::fair_queue::FairQueue;
use crate::parking::{Parking, spread};
use crate::session::{self, Sender};
use crate::settle::InHand;

/// Every site of this worker; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sites {
    by_key: Arc<Mutex<HashMap<routing::Site, Arc<Site>>>>,
    limits: Arc<LimitTable>,
    sender: Arc<Sender>,
    tasks: Tasks,
}

impl Sites {
    pub(crate) fn new(limits: LimitTable, sender: Arc<Sender>, tasks: Tasks) -> Self {
        Self {
            by_key: Arc::default(),
            limits: Arc::new(limits),
            sender,
            tasks,
        }
    }

    /// Queues a job for the site of `route`, and opens a connection where one more is worth it. At shutdown the job
    /// goes back to the queue.
    pub(crate) fn push(&self, route: Arc<Route>, held: InHand) {
        let mut by_key = lock(&self.by_key);
        if self.tasks.shutdown().is_requested() {
            self.tasks.spawn("give back", held.give_back());
            return;
        }
        let site = by_key
            .entry(route.site().clone())
            .or_insert_with(|| Arc::new(self.site(route)));
        site.push_back(held);
        if site.claim_session() {
            self.open_session(Arc::clone(site));
        }
    }

    /// Parks what waits at sites that do not keep up, above `keep` jobs for each.
    pub(crate) fn park_slow(&self, keep: usize) {
        for site in lock(&self.by_key).values() {
            let Some((base, slow)) = site.shed(keep) else {
                continue;
            };
            tracing::info!(provider = %site.path.provider, jobs = slow.len(), ?base, "site is slow, jobs parked");
            for held in slow {
                let settler = Arc::clone(&self.sender.settler);
                self.tasks.spawn(
                    "park",
                    async move { settler.park(held, spread(base)).await },
                );
            }
        }
    }

    /// Gives every job that still waits back to the queue, for other workers to take at once. Called at shutdown.
    pub(crate) fn give_back_waiting(&self) {
        for site in lock(&self.by_key).values() {
            self.give_back(site);
        }
    }

    fn give_back(&self, site: &Site) {
        for held in site.take_all() {
            self.tasks.spawn("give back", held.give_back());
        }
    }

    fn site(&self, route: Arc<Route>) -> Site {
        let path = Path {
            provider: route.provider().clone(),
            source: self.sender.source().clone(),
        };
        let limits = self.limits.of(&path.provider);
        Site {
            route,
            path,
            limits,
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    fn open_session(&self, site: Arc<Site>) {
        let this = self.clone();
        self.tasks.spawn("session", async move {
            session::run(&this.sender, &site).await;
            this.session_ended(&site);
        });
    }

    /// Opens another session for what is left, or forgets the site where nothing is.
    fn session_ended(&self, site: &Arc<Site>) {
        let mut by_key = lock(&self.by_key);
        site.lock().sessions -= 1;
        if self.tasks.shutdown().is_requested() {
            self.give_back(site);
        } else if site.claim_session() {
            self.open_session(Arc::clone(site));
        } else if site.is_unused() {
            by_key.remove(site.route.site());
        }
    }
}

/// One set of mail exchangers.
pub(crate) struct Site {
    pub(crate) route: Arc<Route>,
    pub(crate) path: Path,
    pub(crate) limits: Limits,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: FairQueue<InHand>,
    parking: Parking,
    sessions: u32,
    /// Connections that could not be made since the last that could.
    failures: u32,
}

impl Site {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn push_back(&self, held: InHand) {
        self.lock().waiting.push(held, Instant::now());
        self.arrived.notify_one();
    }

    /// Puts a job back to the front: it was taken and nothing was sent.
    pub(crate) fn put_back(&self, held: InHand) {
        self.lock().waiting.push_front(held, Instant::now());
        self.arrived.notify_one();
    }

    /// The next job, waiting up to `patience` for one.
    pub(crate) async fn next(&self, patience: Duration) -> Option<InHand> {
        let arrival = async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(held) = self.lock().waiting.pop() {
                    return held;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(patience, arrival).await.ok()
    }

    /// Whether a job is waiting.
    pub(crate) fn has_waiting(&self) -> bool {
        self.lock().waiting.len() > 0
    }

    /// Every waiting job.
    pub(crate) fn take_all(&self) -> Vec<InHand> {
        self.lock().waiting.shed(0)
    }

    /// What waits above `keep` jobs, and around how long it is to be parked, if this site does not keep up.
    fn shed(&self, keep: usize) -> Option<(Duration, Vec<InHand>)> {
        let mut state = self.lock();
        let oldest = state.waiting.oldest();
        let base = state.parking.needed(oldest, Instant::now())?;
        let slow = state.waiting.shed(keep);
        (!slow.is_empty()).then_some((base, slow))
    }

    /// Whether another session than the caller's serves this site.
    pub(crate) fn has_other_sessions(&self) -> bool {
        self.lock().sessions > 1
    }

    /// A connection was made.
    pub(crate) fn connected(&self) {
        self.lock().failures = 0;
    }

    /// A connection could not be made.
    pub(crate) fn not_connected(&self) {
        self.lock().failures += 1;
    }

    /// Counts one more session in, if the waiting jobs are worth it. After a failure one connection alone tries.
    fn claim_session(&self) -> bool {
        let mut state = self.lock();
        let limit = if state.failures > 0 {
            1
        } else {
            self.limits.connections
        };
        let wanted = worthwhile(state.waiting.len(), limit);
        let claimed = state.sessions < wanted;
        state.sessions += u32::from(claimed);
        claimed
    }

    fn is_unused(&self) -> bool {
        let state = self.lock();
        state.waiting.len() == 0 && state.sessions == 0
    }
}

/// How many connections `waiting` jobs are worth, under a limit: the first opens at once, the last only for a queue
/// of some hundred.
fn worthwhile(waiting: usize, limit: u32) -> u32 {
    const JOBS_TO_SATURATION: f64 = 40.0;
    let share = 1.0 - (-(waiting as f64) / JOBS_TO_SATURATION).exp();
    ((f64::from(limit) * share).ceil() as u32).min(limit)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::worthwhile;

    #[test]
    fn connections_follow_the_queue_up_to_the_limit() {
        assert_eq!(
            [0, 1, 5, 40, 1000].map(|waiting| worthwhile(waiting, 20)),
            [0, 1, 3, 13, 20]
        );
        assert_eq!(worthwhile(1, 1), 1);
    }
}
