//! Jobs that go to the same set of mail exchangers, and how many connections serve them.
//!
//! Domains with the same MX host set share a site, and so its connections, where their mail is sent the same way; the
//! provider's limits hold over all of its sites. A site exists while it has jobs or connections, or has parked jobs: these
//! come back to a site that knows how slow it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Class, Path};
use routing::Route;
use throttle::Party;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::closure::Closure;
use crate::config::{Limits, Transport};
use crate::fair_queue::{FairQueue, Whom};
use crate::parking::Parking;
use crate::settle::InHand;
use crate::window::Home;

/// Connections tried at once to a site that has not answered yet.
const FIRST_CONNECTIONS: u32 = 5;

/// One set of mail exchangers.
pub(crate) struct Site {
    pub(crate) route: Arc<Route>,
    pub(crate) path: Path,
    pub(crate) limits: Limits,
    pub(crate) transport: Transport,
    /// Open while the site sends: its residents are not parked then, nor do they move.
    pub(crate) home: Home,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: FairQueue<InHand>,
    parking: Parking,
    /// How many sessions are about to take one of them.
    turns: usize,
    /// Jobs that were ever taken to be sent.
    taken: u64,
    /// How many waiting jobs the site keeps while it is slow.
    keep: usize,
    sessions: u32,
    standing: Standing,
    closure: Closure,
}

/// What became of the connections that were tried last, and so how many may be tried at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// None was made since there was none.
    #[default]
    Untried,
    /// One was made.
    Answering,
    /// One could not be made.
    Failing,
}

impl Site {
    /// A site without jobs or connections.
    pub(crate) fn new(route: Arc<Route>, path: Path, limits: Limits, transport: Transport) -> Self {
        Self {
            route,
            path,
            limits,
            transport,
            home: Home::default(),
            state: Mutex::new(State {
                keep: usize::MAX,
                ..State::default()
            }),
            arrived: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job.
    pub(crate) fn push_back(&self, held: InHand) {
        self.lock().waiting.push(held, Instant::now());
        self.arrived.notify_one();
    }

    /// Puts a job back to the front: it was taken and nothing was sent.
    pub(crate) fn put_back(&self, held: InHand) {
        let mut state = self.lock();
        state.waiting.push_front(held, Instant::now());
        state.taken -= 1;
        drop(state);
        self.arrived.notify_one();
    }

    /// A job that was taken is not sent here: it says nothing of how fast this site is.
    pub(crate) fn not_sent(&self) {
        self.lock().taken -= 1;
    }

    /// A turn to take a job, waiting up to `patience` for one that nobody else has a turn for.
    pub(crate) async fn next_turn(&self, patience: Duration) -> Option<Turn<'_>> {
        let arrival = async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(turn) = self.turn() {
                    return turn;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(patience, arrival).await.ok()
    }

    /// The same, if such a job is waiting.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        let mut state = self.lock();
        let is_free = state.waiting.len() > state.turns;
        state.turns += usize::from(is_free);
        is_free.then(|| Turn { site: self })
    }

    /// How many jobs are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether a job is waiting.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting() > 0
    }

    /// Every waiting job.
    pub(crate) fn take_all(&self) -> Vec<InHand> {
        self.lock().waiting.shed(0, Whom::All)
    }

    /// Every waiting resident.
    pub(crate) fn take_residents(&self) -> Vec<InHand> {
        self.lock().waiting.shed(0, Whom::Residents)
    }

    /// Around how long jobs are to be parked, if this site does not keep up and has any that may be; to be asked once a second.
    pub(crate) fn is_slow(&self) -> Option<Duration> {
        let mut state = self.lock();
        let (taken, oldest, now) = (state.taken, state.waiting.oldest(), Instant::now());
        state.parking.measure(taken, now);
        let waiting = state.waiting.len();
        let needed = state.parking.needed(oldest, waiting, now);
        let is_silent = needed.is_some() && !state.parking.sends();
        if is_silent || state.closure.is_closed(now) {
            self.home.close();
        } else {
            self.home.open();
        }
        let has_residents_alone = waiting > 0 && state.waiting.count(self.parked()) == 0;
        needed.filter(|_| !has_residents_alone)
    }

    /// Who is parked while the site is slow.
    fn parked(&self) -> Whom {
        match self.home.is_open() {
            true => Whom::Guests,
            false => Whom::All,
        }
    }

    /// The same, if it did not keep up of late, and what has arrived since may not have waited for long.
    pub(crate) fn was_slow(&self) -> Option<Duration> {
        self.lock().parking.known(Instant::now())
    }

    /// Keeps from now on what it sends until others are back, at least `least` and at most `most` jobs of the size of
    /// those that wait; no more than take `octets`, and one.
    pub(crate) fn keep(&self, least: usize, most: usize, octets: u64, soonest: Duration) {
        let mut state = self.lock();
        let wanted = state
            .parking
            .sends_until_others_return(soonest, Instant::now());
        let size = state.waiting.room().checked_div(state.waiting.len() as u64);
        let fit = size.and_then(|size| octets.checked_div(size));
        let fit = fit.map_or(usize::MAX, |fit| fit.max(1) as usize);
        state.keep = wanted.max(least).min(most).min(fit);
    }

    /// What waits above what the site keeps, each with how long it is to be parked.
    pub(crate) fn shed(&self, base: Duration, soonest: Duration) -> Vec<(InHand, Duration)> {
        let (mut state, now) = (self.lock(), Instant::now());
        let keep = state.keep;
        let shed = state.waiting.shed(keep, self.parked());
        // The one that came first comes back first.
        let timed = shed.into_iter().map(|held| {
            let time = state.parking.time(base, soonest, now);
            (held, time)
        });
        timed.collect()
    }

    /// Whether another session than the caller's serves this site.
    pub(crate) fn has_other_sessions(&self) -> bool {
        self.lock().sessions > 1
    }

    /// A connection was made.
    pub(crate) fn connected(&self) {
        let mut state = self.lock();
        state.standing = Standing::Answering;
        state.closure.opened();
    }

    /// A connection could not be made, and there is no other: none is tried for a while.
    pub(crate) fn close(&self) {
        self.lock().closure.failed(Instant::now());
    }

    /// A connection could not be made.
    pub(crate) fn not_connected(&self) {
        self.lock().standing = Standing::Failing;
    }

    /// Counts one more session in, if the waiting jobs are worth it. Until a connection is made a few try, and after a failure
    /// one alone, in its time: a site that is down hears little of it, however many jobs wait.
    pub(crate) fn claim_session(&self) -> bool {
        let mut state = self.lock();
        if state.closure.is_closed(Instant::now()) {
            return false;
        }
        let limit = match state.standing {
            Standing::Untried => self.limits.connections.min(FIRST_CONNECTIONS),
            Standing::Answering => self.limits.connections,
            Standing::Failing => 1,
        };
        let wanted = worthwhile(state.waiting.len(), limit);
        let claimed = state.sessions < wanted;
        state.sessions += u32::from(claimed);
        claimed
    }

    /// Counts a session out.
    pub(crate) fn leave_session(&self) {
        let mut state = self.lock();
        state.sessions -= 1;
        if state.sessions == 0 && state.standing == Standing::Answering {
            state.standing = Standing::Untried;
        }
    }

    /// Whether nothing is left of it: no job, no connection, and nothing that those to come must know.
    pub(crate) fn is_unused(&self) -> bool {
        let (state, now) = (self.lock(), Instant::now());
        let is_idle = state.waiting.len() == 0 && state.sessions == 0;
        is_idle && !state.parking.expects_any(now) && !state.closure.is_remembered(now)
    }
}

impl Party for Site {
    fn next_class(&self) -> Option<Class> {
        self.lock().waiting.next_class()
    }
}

/// The right to take one waiting job. Which one is decided when it is taken, and so after the wait for a token: what comes
/// meanwhile and goes first has not to wait for what was there before.
pub(crate) struct Turn<'site> {
    site: &'site Site,
}

impl Turn<'_> {
    /// The next job; none where all that waited were taken away.
    pub(crate) fn take(self) -> Option<InHand> {
        let mut state = self.site.lock();
        let held = state.waiting.pop()?;
        state.taken += 1;
        Some(held)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.site.lock();
        state.turns -= 1;
        let is_left = state.waiting.len() > state.turns;
        drop(state);
        if is_left {
            self.site.arrived.notify_one();
        }
    }
}

/// How many connections `waiting` jobs are worth, under a limit: the first opens at once, the last only for a queue
/// of some hundred.
fn worthwhile(waiting: usize, limit: u32) -> u32 {
    const JOBS_TO_SATURATION: f64 = 40.0;
    let share = 1.0 - (-(waiting as f64) / JOBS_TO_SATURATION).exp();
    ((f64::from(limit) * share).ceil() as u32).min(limit)
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
