//! What this worker knows of one path: the tokens and slots it holds, and its own share when Redis is away.
//!
//! Pure state behind one lock; asks nobody. The two async locks only order those who ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Path;
use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::lease::{Lease, Terms};
use crate::scripts::Decision;
use crate::{Limits, Mode, Reason, Wait};

/// How long a path that nobody asks about is remembered: longer than any bucket matters.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How long an answer that tokens are to be taken from the share stands.
const APART: Duration = Duration::from_millis(250);

/// A slot's number within this process; also its age.
pub(crate) type SlotId = u64;

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) rate_key: String,
    pub(crate) slots_key: String,
    /// Held by whoever waits for the next token, so that waiters are served in order.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Held by whoever asks Redis for tokens, so that one question serves all.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// Told when the limits change, for whoever waits under the old ones.
    pub(crate) relearned: tokio::sync::Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    denial: Option<Denial>,
    share: Option<Share>,
    /// Until when tokens are taken from the share without asking again.
    apart: Option<Instant>,
    slots: BTreeMap<SlotId, Instant>,
    /// The slot that is to be given up, because a worker without any waits.
    wanted: Option<SlotId>,
    /// The most slots held at once of late, and since when.
    most_slots: (usize, Instant),
    /// How many workers have slots of this path, as Redis said last.
    sharers: Option<u32>,
    limits: Limits,
    asked_at: Instant,
}

/// This worker's own bucket, and from when on it may be used.
#[derive(Debug)]
struct Share {
    bucket: Bucket,
    opens: Instant,
}

/// Redis said no, and until when that answer stands while the limits stay the same.
#[derive(Debug)]
struct Denial {
    until: Instant,
    limits: Limits,
}

impl Gate {
    pub(crate) fn new(cell: &str, path: &Path, limits: &Limits) -> Self {
        Self {
            rate_key: format!("{{{cell}}}:rate:{path}"),
            slots_key: format!("{{{cell}}}:slots:{path}"),
            turn: tokio::sync::Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            relearned: tokio::sync::Notify::new(),
            state: Mutex::new(State {
                lease: Lease::default(),
                denial: None,
                share: None,
                apart: None,
                slots: BTreeMap::new(),
                wanted: None,
                most_slots: (0, Instant::now()),
                sharers: None,
                limits: *limits,
                asked_at: Instant::now(),
            }),
        }
    }

    /// Takes note of the path's limits: the latest hold for everybody, also for those who already wait.
    pub(crate) fn learn(&self, limits: &Limits) {
        let mut state = self.state();
        state.asked_at = Instant::now();
        if state.limits != *limits {
            state.limits = *limits;
            self.relearned.notify_one();
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.state().limits
    }

    /// Answers from what is already known; none where somebody must be asked.
    pub(crate) fn answer(
        &self,
        limits: &Limits,
        share: &Limits,
        mode: Mode,
    ) -> Option<Result<(), Wait>> {
        let now = Instant::now();
        let mut state = self.state();
        if state.lease.spend(now) {
            return Some(Ok(()));
        }
        if mode == Mode::Shared && state.apart.is_some_and(|until| until > now) {
            return Some(state.take_of_share(share, now, Duration::ZERO));
        }
        match (&state.denial, mode) {
            (Some(denial), Mode::Shared) if denial.until > now && denial.limits == *limits => {
                Some(Err(Wait {
                    reason: Reason::RateLimited,
                    retry_after: denial.until - now,
                }))
            }
            (_, Mode::Shared | Mode::Local) => None,
        }
    }

    /// How many tokens to ask for.
    pub(crate) fn demand(&self, terms: &Terms) -> u32 {
        self.state().lease.demand(terms.chunk)
    }

    /// Takes in what Redis decided about tokens; the first of them is the asker's.
    pub(crate) fn settle(
        &self,
        limits: &Limits,
        share: &Limits,
        terms: &Terms,
        decision: Decision,
    ) -> Result<(), Wait> {
        let now = Instant::now();
        let mut state = self.state();
        if let Decision::OfShare { time } = decision {
            return state.keep_apart(share, now, time);
        }
        state.share = None;
        state.apart = None;
        let wait = match decision {
            Decision::OfShare { .. } => return Ok(()),
            Decision::Granted { tokens } => {
                state.lease.fill(tokens, now + terms.validity);
                state.denial = None;
                return Ok(());
            }
            Decision::RateLimited { wait } | Decision::ConnectionsInUse { wait } => wait,
        };
        state.denial = Some(Denial {
            until: now + wait,
            limits: *limits,
        });
        Err(Wait {
            reason: Reason::RateLimited,
            retry_after: wait,
        })
    }

    /// Takes a token from this worker's own share.
    ///
    /// A share that was not in use opens after `delay`: others may find Redis well, and need as long to hear that
    /// this worker did not.
    pub(crate) fn take_of_share(&self, share: &Limits, delay: Duration) -> Result<(), Wait> {
        self.state().take_of_share(share, Instant::now(), delay)
    }

    /// Takes a token from this worker's own share, on Redis's word that all do so for `time`.
    pub(crate) fn keep_apart(&self, share: &Limits, time: Duration) -> Result<(), Wait> {
        self.state().keep_apart(share, Instant::now(), time)
    }

    /// Takes a slot, and a token with it, from this worker's own share.
    pub(crate) fn open_of_share(
        &self,
        id: SlotId,
        share: &Limits,
        delay: Duration,
    ) -> Result<(), Wait> {
        let now = Instant::now();
        let mut state = self.state();
        if state.slots.len() >= share.connections() as usize {
            return Err(Wait::for_connection(Duration::MAX));
        }
        state.take_of_share(share, now, delay)?;
        state.slots.insert(id, now);
        Ok(())
    }

    /// Notes a slot that Redis granted or renewed at `at`.
    pub(crate) fn hold(&self, id: SlotId, at: Instant) {
        let mut state = self.state();
        state.slots.insert(id, at);
        if state.slots.len() >= state.most_slots.0 {
            state.most_slots = (state.slots.len(), at);
        }
    }

    /// Whether this worker held more slots within the last `time` than it holds now: another one then takes the place of
    /// one that was given back.
    pub(crate) fn has_given_back(&self, time: Duration) -> bool {
        let mut state = self.state();
        if state.most_slots.1.elapsed() > time {
            state.most_slots = (state.slots.len(), Instant::now());
        }
        state.slots.len() < state.most_slots.0
    }

    /// Notes how many workers have slots of this path.
    pub(crate) fn shared_by(&self, sharers: u32) {
        self.state().sharers = Some(sharers.max(1));
    }

    /// This worker has no slot of this path, and so does not know who else has.
    pub(crate) fn forget_sharers(&self) {
        self.state().sharers = None;
    }

    /// Among how many workers the path is shared while Redis is away: those that had slots of it, if this one had, and
    /// otherwise all of `workers`.
    pub(crate) fn sharers(&self, workers: u32) -> u32 {
        self.state()
            .sharers
            .map_or(workers, |sharers| sharers.min(workers))
    }

    /// Notes a renewal, unless the slot was released meanwhile.
    pub(crate) fn renewed(&self, id: SlotId, at: Instant) {
        if let Some(renewed) = self.state().slots.get_mut(&id) {
            *renewed = at;
        }
    }

    pub(crate) fn release(&self, id: SlotId) {
        self.state().slots.remove(&id);
    }

    pub(crate) fn slots(&self) -> Vec<SlotId> {
        self.state().slots.keys().copied().collect()
    }

    /// Whether slot `id` was renewed within `time`.
    pub(crate) fn is_renewed(&self, id: SlotId, time: Duration) -> bool {
        self.state()
            .slots
            .get(&id)
            .is_some_and(|renewed| renewed.elapsed() < time)
    }

    /// Whether slot `id` is one of those this worker may keep as its share among `workers`: the oldest ones.
    pub(crate) fn is_within_share(&self, id: SlotId, workers: u32) -> bool {
        let state = self.state();
        let older = state.slots.range(..id).count();
        older < state.limits.share(workers, workers).connections() as usize
    }

    /// Notes whether another worker waits for one of this worker's slots. The oldest is to be given up, one at a time.
    pub(crate) fn want_one(&self, is_wanted: bool) {
        let mut state = self.state();
        state.wanted = is_wanted
            .then(|| state.slots.keys().next().copied())
            .flatten();
    }

    /// Whether slot `id` is the one that is to be given up.
    pub(crate) fn is_wanted(&self, id: SlotId) -> bool {
        self.state().wanted == Some(id)
    }

    /// Whether nothing would be lost by forgetting this path.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.slots.is_empty() && state.asked_at.elapsed() > REMEMBERED
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep_apart(&mut self, share: &Limits, now: Instant, time: Duration) -> Result<(), Wait> {
        self.denial = None;
        self.apart = Some(now + time.min(APART));
        self.take_of_share(share, now, Duration::ZERO)
    }

    fn take_of_share(&mut self, share: &Limits, now: Instant, delay: Duration) -> Result<(), Wait> {
        // Tokens of a share are used one by one, so no lease is taken out of the burst.
        let Some(terms) = Terms::of(share, Duration::ZERO) else {
            return Ok(());
        };
        let share = self.share.get_or_insert_with(|| Share {
            bucket: Bucket::empty(&terms, now + delay),
            opens: now + delay,
        });
        let taken = match share.opens.saturating_duration_since(now) {
            Duration::ZERO => share.bucket.take(&terms, now),
            closed => Err(closed),
        };
        taken.map_err(|retry_after| Wait {
            reason: Reason::RateLimited,
            retry_after,
        })
    }
}
