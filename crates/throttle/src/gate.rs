//! What this worker knows of one path: the tokens it holds, and its own share when Redis is away; who waits for a token, and
//! the slots it holds (`line.rs`, `holdings.rs`).
//!
//! Pure state behind locks that are held for a moment; asks nobody. The async lock only orders those who ask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Class, Path};
use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::holdings::{Holdings, SlotId};
use crate::lease::{Lease, Terms};
use crate::line::Line;
use crate::party::Party;
use crate::scripts::Decision;
use crate::standing::Standing;
use crate::{Limits, Mode, Wait};

/// How long a path that nobody asks about is remembered: longer than any bucket matters.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How often a worker that uses a path is told of the others.
const TOLD: Duration = Duration::from_millis(250);

/// How long an answer that tokens are to be taken from the share stands.
const APART: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) rate_key: String,
    pub(crate) slots_key: String,
    /// Who waits for the next token.
    pub(crate) line: Line,
    /// Held by whoever asks Redis for tokens, so that one question serves all.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// Told when the limits change, for whoever waits under the old ones.
    pub(crate) relearned: tokio::sync::Notify,
    /// Told when a slot may be wanted, for those who have one and nothing in hand.
    pub(crate) stirred: tokio::sync::Notify,
    state: Mutex<State>,
    holdings: Mutex<Holdings>,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    denial: Option<Denial>,
    share: Option<Share>,
    /// Until when tokens are taken from the share without asking again.
    apart: Option<Instant>,
    limits: Limits,
    asked_at: Instant,
    /// How many use the path, as Redis said last: negative where this worker does not count itself in yet.
    told: i32,
    told_at: Option<Instant>,
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
    /// Who was told. What bulk was told may be on account of others' transactional mail, and holds for bulk alone;
    /// transactional mail asks for itself, so that others hear of it.
    told: Class,
}

impl Denial {
    fn stands(&self, limits: &Limits, class: Class, now: Instant) -> bool {
        let is_told = self.told == Class::Transactional || class == Class::Bulk;
        is_told && self.until > now && self.limits == *limits
    }
}

impl Gate {
    pub(crate) fn new(cell: &str, path: &Path, limits: &Limits) -> Self {
        Self {
            rate_key: format!("{{{cell}}}:rate:{path}"),
            slots_key: format!("{{{cell}}}:slots:{path}"),
            line: Line::default(),
            asking: tokio::sync::Mutex::default(),
            relearned: tokio::sync::Notify::new(),
            stirred: tokio::sync::Notify::new(),
            state: Mutex::new(State {
                lease: Lease::default(),
                denial: None,
                share: None,
                apart: None,
                limits: *limits,
                asked_at: Instant::now(),
                told: 0,
                told_at: None,
            }),
            holdings: Mutex::new(Holdings::new()),
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

    /// Uses one of the tokens that this worker holds, if there is one, and says until when it is good.
    pub(crate) fn spend(&self) -> Option<Instant> {
        let mut state = self.state();
        let is_spent = state.lease.spend(Instant::now());
        is_spent.then(|| state.lease.expires()).flatten()
    }

    /// Puts back what was spent and not used.
    pub(crate) fn put_back(&self, expires: Instant) {
        self.state().lease.put_back(expires);
    }

    /// Answers one who asks for a token for mail of `class` from what is already known; none where somebody must be asked.
    pub(crate) fn answer(
        &self,
        limits: &Limits,
        share: &Limits,
        mode: Mode,
        class: Class,
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
            (Some(denial), Mode::Shared) if denial.stands(limits, class, now) => {
                Some(Err(Wait::for_token(denial.until - now)))
            }
            (_, Mode::Shared | Mode::Local) => None,
        }
    }

    /// How many tokens to ask for.
    pub(crate) fn demand(&self, terms: &Terms) -> u32 {
        self.state().lease.demand(terms.chunk)
    }

    /// Takes in what Redis decided about tokens for mail of `class`; the first of them is the asker's.
    pub(crate) fn settle(
        &self,
        limits: &Limits,
        share: &Limits,
        terms: &Terms,
        class: Class,
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
            told: class,
        });
        Err(Wait::for_token(wait))
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

    /// Takes a slot for `party`, and a token with it, from this worker's own share.
    pub(crate) fn open_of_share(
        &self,
        id: SlotId,
        party: &Arc<dyn Party>,
        share: &Limits,
        delay: Duration,
    ) -> Result<(), Wait> {
        let now = Instant::now();
        let mut holdings = self.holdings();
        if holdings.len() >= share.connections() as usize {
            return Err(Wait::for_connection(Duration::MAX));
        }
        self.state().take_of_share(share, now, delay)?;
        holdings.hold(id, party, now);
        Ok(())
    }

    /// Whether slot `id` is one of those this worker may keep where it has no more than `share`: the oldest ones.
    pub(crate) fn is_within_share(&self, id: SlotId, share: &Limits) -> bool {
        self.holdings().is_among_oldest(id, share.connections())
    }

    /// Notes whether another worker waits for one of this worker's slots.
    pub(crate) fn want_one(&self, is_wanted: bool) {
        self.holdings().want_one(is_wanted);
        if is_wanted {
            self.stirred.notify_waiters();
        }
    }

    /// What Redis said last of those that use the path, if it is to be asked again.
    pub(crate) fn told_before(&self) -> Option<i32> {
        let state = self.state();
        let is_new = state.told_at.is_some_and(|at| at.elapsed() < TOLD);
        (!is_new).then_some(state.told)
    }

    /// Takes in what Redis said of those that use the path; 0 says nothing.
    pub(crate) fn told(&self, told: i32) {
        if told != 0 {
            let mut state = self.state();
            state.told = told;
            state.told_at = Some(Instant::now());
        }
    }

    /// This worker does not count itself among those that use the path any more, if it has not been told of them for `time`.
    pub(crate) fn leave_after(&self, time: Duration) {
        let mut state = self.state();
        if state
            .told_at
            .is_none_or(|told_at| told_at.elapsed() >= time)
        {
            state.told = 0;
        }
    }

    /// Where this worker stands among those that use the path.
    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.state().told)
    }

    /// The slots of the path that this worker holds.
    pub(crate) fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing would be lost by forgetting this path.
    pub(crate) fn is_idle(&self) -> bool {
        self.holdings().len() == 0 && self.state().asked_at.elapsed() > REMEMBERED
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
        taken.map_err(Wait::for_token)
    }
}
