//! Every site of a worker: opens sessions for them, parks what they are too slow for, and forgets them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use model::Path;
use routing::Route;
use runtime::Tasks;

use crate::config::{Config, LimitTable, Transport, TransportTable};
use crate::sender::Sender;
use crate::session;
use crate::settle::InHand;
use crate::site::Site;
use crate::window::Window;

/// What stays in hand for long has one part in so many of the whole window.
pub(crate) const SLOW_SHARE: usize = 4;
/// What slow sites keep leaves one part in so many of that to what is being parked, and to what has only just come.
const PASSING_SHARE: usize = 4;
/// A slow site keeps one part in so many of the whole window.
const SITE_SHARE: usize = 40;
/// Where one part in so many of that waits for one site already, what comes for that site stands with what stays for long.
const CROWD: usize = 400;

/// Mail to the same hosts that is sent the same way shares a site.
type ByKey = HashMap<(routing::Site, Transport), Arc<Site>>;

/// Whether a job came from an own lane of the provider that it goes to (ADR 26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residence {
    /// It did: what stands behind it in its stream goes there, too.
    Home,
    /// It did not.
    Elsewhere,
}

/// Every site; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sites {
    by_key: Arc<Mutex<ByKey>>,
    limits: Arc<LimitTable>,
    transport: Arc<TransportTable>,
    /// Jobs in hand at most.
    window: usize,
    /// What slow sites keep of them together at most, and of the octets in hand.
    kept: usize,
    kept_octets: u64,
    /// The room for what stays in hand for long.
    slow: Window,
    sender: Arc<Sender>,
    tasks: Tasks,
}

impl Sites {
    pub(crate) fn new(config: &Config, sender: Arc<Sender>, tasks: Tasks) -> Self {
        let slow_octets = config.window_bytes.0 / SLOW_SHARE as u64;
        let slow_jobs = config.window / SLOW_SHARE;
        Self {
            by_key: Arc::default(),
            limits: Arc::new(config.limits.clone()),
            transport: Arc::new(config.transport.clone()),
            window: config.window,
            kept: slow_jobs - slow_jobs / PASSING_SHARE,
            kept_octets: slow_octets - slow_octets / PASSING_SHARE as u64,
            slow: Window::new(slow_jobs, slow_octets),
            sender,
            tasks,
        }
    }

    /// The room for what stays in hand for long, of all streams.
    pub(crate) fn slow(&self) -> Window {
        self.slow.clone()
    }

    /// Queues a job for the site of `route`, and opens a connection where one more is worth it. At shutdown the job
    /// goes back to the queue.
    pub(crate) fn push(&self, route: Arc<Route>, residence: Residence, mut held: InHand) {
        let mut by_key = self.lock();
        if self.tasks.shutdown().is_requested() {
            self.tasks.spawn("give back", held.give_back());
            return;
        }
        let transport = self.transport.of(route.provider(), &held.job);
        let site = by_key
            .entry((route.site().clone(), transport))
            .or_insert_with(|| Arc::new(self.site(route, transport)));
        if residence == Residence::Home {
            held.place.reside(&site.home);
        }
        let slow = site.was_slow();
        if slow.is_some() {
            held.place.move_to(&self.slow);
        } else if is_crowd(site.waiting(), self.window, || {
            !held.overflowed && self.has_room()
        }) {
            held.place.try_move_to(&self.slow);
        }
        site.push_back(held);
        if let Some(base) = slow {
            self.park_above_share(site, base);
        }
        if site.claim_session() {
            self.open_session(Arc::clone(site));
        }
    }

    /// Whether slow sites would have room for all that they keep, if one more stood there.
    fn has_room(&self) -> bool {
        self.slow.has_more_than(self.kept, self.kept_octets)
    }

    /// What a slow site keeps of the window.
    fn share(&self) -> usize {
        self.window / SITE_SHARE
    }

    /// Parks what waits at sites that do not keep up. They share the room for what stays evenly, but for what passes through
    /// it, so that the windows of the streams stay free for others; as many of them as it has places keep at least the job that
    /// is being tried. Tries sites again that were closed, and forgets those of which nothing is left. To be called once a
    /// second.
    pub(crate) fn park_slow(&self) {
        let mut by_key = self.lock();
        by_key.retain(|_, site| !site.is_unused());
        for site in by_key.values().filter(|site| site.claim_session()) {
            self.open_session(Arc::clone(site));
        }
        let slow: Vec<(Arc<Site>, Duration)> = by_key
            .values()
            .filter_map(|site| Some((Arc::clone(site), site.is_slow()?)))
            .collect();
        drop(by_key);
        let part = self.kept / slow.len().max(1);
        let octets = self.kept_octets / slow.len().max(1) as u64;
        for (number, (site, base)) in slow.into_iter().enumerate() {
            let part = if number < self.kept { part.max(1) } else { 0 };
            site.keep(self.share().min(part), part, octets, self.soonest());
            let parked = self.park_above_share(&site, base);
            if parked > 0 {
                tracing::info!(provider = %site.path.provider, jobs = parked, ?base, "site is slow, jobs parked");
            }
        }
    }

    /// Parks what waits at a slow site above what it keeps, and answers how many jobs that were.
    fn park_above_share(&self, site: &Site, base: Duration) -> usize {
        let shed = site.shed(base, self.soonest());
        let parked = shed.len();
        for (held, time) in shed {
            let settler = Arc::clone(&self.sender.settler);
            self.tasks
                .spawn("park", async move { settler.park(held, time).await });
        }
        parked
    }

    /// The soonest a parked job may come back.
    fn soonest(&self) -> Duration {
        self.sender.settler.soonest
    }

    /// Gives the residents of slow sites back to the queue, for whoever pulls their lanes from now on: they would have their
    /// places beside those of that worker, or of the windows to come. Called when lanes move.
    pub(crate) fn give_back_residents(&self) {
        for site in self
            .lock()
            .values()
            .filter(|site| site.was_slow().is_some())
        {
            for held in site.take_residents() {
                self.tasks.spawn("give back", held.give_back());
            }
        }
    }

    /// Gives every job that still waits back to the queue, for other workers to take at once. Called at shutdown.
    pub(crate) fn give_back_waiting(&self) {
        for site in self.lock().values() {
            self.give_back(site);
        }
    }

    fn give_back(&self, site: &Site) {
        for held in site.take_all() {
            self.tasks.spawn("give back", held.give_back());
        }
    }

    fn site(&self, route: Arc<Route>, transport: Transport) -> Site {
        let source = self.sender.source().clone();
        let path = Path {
            provider: route.provider().clone(),
            source,
        };
        let limits = self.limits.of(&path.provider);
        Site::new(route, path, limits, transport)
    }

    fn open_session(&self, site: Arc<Site>) {
        let this = self.clone();
        self.tasks.spawn("session", async move {
            let serving = AssertUnwindSafe(this.serve(&site));
            if serving.catch_unwind().await.is_err() {
                tracing::error!(provider = %site.path.provider, "session panicked, opening another");
            }
            this.session_ended(&site);
        });
    }

    /// Serves a site over one connection. The site has answered once it is made, and more may be worth it.
    async fn serve(&self, site: &Arc<Site>) {
        let Some(opened) = session::open(&self.sender, site).await else {
            return;
        };
        while site.claim_session() {
            self.open_session(Arc::clone(site));
        }
        session::converse(&self.sender, site, opened).await;
    }

    /// Opens another session for what is left, or forgets the site where nothing is.
    fn session_ended(&self, site: &Arc<Site>) {
        let mut by_key = self.lock();
        site.leave_session();
        if self.tasks.shutdown().is_requested() {
            self.give_back(site);
        } else if site.claim_session() {
            self.open_session(Arc::clone(site));
        } else if site.is_unused() {
            by_key.remove(&(site.route.site().clone(), site.transport));
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByKey> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what comes for a site where `waiting` wait already stands with what stays for long, before anybody knows whether it
/// will. A site that has fallen silent is noticed after seconds, and one that is a little slower than what comes for it never; the
/// jobs of either fill a stream's window. So there is room for some of every site's, and, as long as slow sites do not need it,
/// for what a tenant may have in a lane (ADR 30).
fn is_crowd(waiting: usize, window: usize, has_room: impl FnOnce() -> bool) -> bool {
    let crowd = (window / CROWD).max(1);
    waiting >= crowd && (waiting < crowd + window / SITE_SHARE || has_room())
}

#[cfg(test)]
mod tests {
    use super::is_crowd;

    #[test]
    fn some_of_every_sites_jobs_are_a_crowd_and_more_of_them_where_there_is_room() {
        for has_room in [false, true] {
            let is_crowd = |waiting| is_crowd(waiting, 10_000, || has_room);
            let crowds = [24, 25, 274, 275, 5000].map(is_crowd);
            assert_eq!(crowds, [false, true, true, has_room, has_room]);
        }
        assert!(!is_crowd(0, 100, || true));
        assert!(is_crowd(1, 100, || false));
    }
}
