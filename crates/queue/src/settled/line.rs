//! What is settled of one stream, and how much of it may leave together (ADR 24).
//!
//! Pure state behind one lock; asks nobody. What it answers is never past a job that was not settled here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer;
use async_nats::jetstream::message::Acker;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::connection::Connection;

/// Removing so many together is cheaper than one by one.
const WORTHWHILE: u64 = 16;
/// A removal that takes no longer than this is cheap, however few it removes.
const CHEAP: Duration = Duration::from_millis(250);
/// What acknowledging one job costs the broker (ADR 24).
const ACKNOWLEDGING: Duration = Duration::from_micros(140);
/// How much of what a removal took is remembered a second later.
const MEMORY: f64 = 0.9;
/// So many settled jobs are remembered behind one that is not.
const MOST_BEHIND: usize = 20_000;

/// A settled job that the broker has not been told of.
pub(super) struct Leaving {
    pub(super) acker: Arc<Acker>,
    pub(super) connection: Connection,
    since: Instant,
    told: oneshot::Sender<()>,
}

impl Leaving {
    pub(super) fn say_told(self) {
        // Mostly nobody waits for that.
        let _ = self.told.send(());
    }
}

/// Where a job stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// What brought it from there.
    pub(crate) connection: Connection,
    pub(crate) sequence: u64,
    /// No job stands between this sequence and its own. `None` where that is not known.
    pub(crate) behind: Option<u64>,
    /// How often the broker had forgotten by then to whom it gave what.
    pub(crate) forgot: u32,
}

/// What stands in a stream besides jobs, and must stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Others {
    #[default]
    None,
    Schedules,
}

/// The settled jobs of one stream.
#[derive(Default)]
pub(crate) struct Line {
    pub(super) stream: Arc<str>,
    /// The subject of its jobs.
    pub(super) jobs: String,
    others: Others,
    state: Mutex<State>,
    forgot: AtomicU32,
    /// The most deliveries that the broker is known to have made.
    deliveries: AtomicU64,
    pub(super) added: Notify,
    /// Held while the broker removes.
    pub(super) removing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Line {
    /// Nothing settled yet of `stream`, in which `others` stand between jobs under the subject `jobs`.
    pub(super) fn new(stream: &str, jobs: &str, others: Others) -> Self {
        Self {
            stream: stream.into(),
            jobs: jobs.to_owned(),
            others,
            ..Self::default()
        }
    }

    /// The stream's name.
    pub(crate) fn stream(&self) -> &Arc<str> {
        &self.stream
    }

    /// Jobs are pulled from here on, over `connection`, by which the broker has `told` this.
    pub(crate) fn open(&self, connection: Connection, told: Told) {
        let mut state = self.renewed(connection);
        if state.connection == connection {
            state.open(told);
        }
    }

    /// Where the job stands that the broker has just delivered over `connection` for the `delivered`th time, as its `delivery`th
    /// delivery.
    pub(crate) fn place(
        &self,
        connection: Connection,
        sequence: u64,
        delivered: i64,
        delivery: u64,
    ) -> Place {
        let mut state = self.renewed(connection);
        let is_current = state.connection == connection;
        if is_current {
            state.see(sequence);
        }
        let behind = match self.others {
            Others::None => sequence.checked_sub(1),
            Others::Schedules if is_current => state.follow(sequence, delivered, delivery),
            Others::Schedules => None,
        };
        Place {
            connection,
            sequence,
            behind,
            forgot: self.times_forgotten(),
        }
    }

    /// The broker has made so many deliveries.
    pub(crate) fn count(&self, deliveries: u64) {
        self.deliveries.fetch_max(deliveries, Ordering::Relaxed);
    }

    /// The same, by its own account, and it counts from there; how many it had made when it was heard of last.
    pub(crate) fn count_from(&self, deliveries: u64) -> u64 {
        self.deliveries.swap(deliveries, Ordering::Relaxed)
    }

    /// The broker has forgotten to whom it gave what.
    pub(crate) fn note_forgetting(&self) {
        self.forgot.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub(crate) fn times_forgotten(&self) -> u32 {
        self.forgot.load(Ordering::Relaxed)
    }

    /// Waits until there is something to do.
    pub(super) async fn filled(&self) {
        if self.lock().is_clear() {
            self.added.notified().await;
        }
    }

    /// The job at `place` is settled. What is answered hears when the broker was told, if it ever is.
    pub(crate) fn add(&self, place: Place, acker: Arc<Acker>) -> oneshot::Receiver<()> {
        let (told, hears) = oneshot::channel();
        let leaving = Leaving {
            acker,
            connection: place.connection,
            since: Instant::now(),
            told,
        };
        self.lock().settle(place, Some(leaving));
        self.added.notify_one();
        hears
    }

    /// The broker is being told of the job at `place`.
    pub(crate) fn add_told(&self, place: Place) {
        let mut state = self.lock();
        state.settle(place, None);
        state.forget_told();
    }

    /// What is known by `connection`, or by a later one.
    fn renewed(&self, connection: Connection) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.renew(connection) {
            self.added.notify_one();
        }
        state
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the broker says of the jobs of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// Everything that it delivered up to this sequence is settled.
    pub(crate) settled: u64,
    /// How many deliveries it has made.
    pub(crate) deliveries: u64,
    /// The last sequence that it delivered.
    pub(crate) delivered: u64,
    /// How many it has delivered that are not acknowledged.
    pub(crate) in_hand: usize,
    /// Where the first job of the stream stands, if it was asked for that and there is one.
    pub(crate) first: Option<u64>,
}

impl Told {
    /// The same of a stream whose first job stands at `first`.
    ///
    /// What was in front of it is settled, although the broker's mark may stand still until nothing is in hand (ADR 24).
    pub(super) fn with_first(self, first: u64) -> Self {
        Self {
            settled: self.settled.max(first - 1),
            first: Some(first),
            ..self
        }
    }

    /// Whether the broker has copies of settled jobs.
    pub(super) fn has_copies(self) -> bool {
        self.first.is_some_and(|first| first <= self.settled)
    }
}

impl From<&consumer::Info> for Told {
    fn from(info: &consumer::Info) -> Self {
        Self {
            settled: info.ack_floor.stream_sequence,
            deliveries: info.delivered.consumer_sequence,
            delivered: info.delivered.stream_sequence,
            in_hand: info.num_ack_pending,
            first: None,
        }
    }
}

/// What the broker had delivered before, and was not settled then. Nothing is removed until it is.
///
/// Among it there may be copies of settled jobs, which a broker that crashed has kept and gives to nobody: it had written what was
/// acknowledged and not what it removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Earlier {
    /// Nothing.
    #[default]
    Settled,
    /// Whatever it had delivered by now, which is not known yet.
    Unknown,
    /// What stands up to this sequence.
    UpTo(u64),
}

struct Settlement {
    /// As in [`Place`].
    behind: Option<u64>,
    /// `None` where the broker was told already.
    leaving: Option<Leaving>,
}

#[derive(Default)]
pub(super) struct State {
    /// Everything up to here is settled; `None` where that is not known.
    floor: Option<u64>,
    /// What is settled above it by sequence.
    settled: BTreeMap<u64, Settlement>,
    /// How many deliveries were made so far, and the sequence up to which jobs have been delivered; `None` where somebody else
    /// may have had some.
    delivered: Option<(u64, u64)>,
    /// The last that is known to stand in the stream, or to have stood there.
    newest: u64,
    /// Since when nothing can be removed.
    blocked: Option<Instant>,
    /// Until then nothing is removed.
    pub(super) removes_from: Option<Instant>,
    /// What all of this came by.
    pub(super) connection: Connection,
    earlier: Earlier,
    /// When settled jobs were last removed, and what that took.
    removal: Option<(Instant, Duration)>,
}

impl State {
    /// Counts the job at `sequence` as settled. One up to the floor has come again: the broker has lost what it was told with
    /// its leader, and the floor is what it says next.
    fn settle(&mut self, place: Place, leaving: Option<Leaving>) {
        let Place {
            connection,
            sequence,
            behind,
            forgot: _,
        } = place;
        // Its sequence may be another job's by now.
        if connection != self.connection {
            return;
        }
        self.floor = self.floor.filter(|floor| *floor < sequence);
        self.settled
            .insert(sequence, Settlement { behind, leaving });
    }

    /// The sequence behind which the job at `sequence` comes, if it is the next that the broker delivers: it delivers in order
    /// what it has not delivered before, and numbers every delivery.
    fn follow(&mut self, sequence: u64, delivered: i64, delivery: u64) -> Option<u64> {
        let known = self.delivered.filter(|(last, _)| last + 1 == delivery);
        let behind = known.map(|(_, up_to)| up_to);
        if delivered > 1 {
            self.delivered = behind.map(|up_to| (delivery, up_to));
            return None;
        }
        self.delivered = Some((delivery, sequence));
        behind
    }

    /// The stream has come as far as `sequence`.
    fn see(&mut self, sequence: u64) {
        self.newest = self.newest.max(sequence);
    }

    /// Whether there is nothing to do.
    fn is_clear(&self) -> bool {
        let is_told = |settled: &Settlement| settled.leaving.is_none();
        !self.has_earlier() && self.settled.values().all(is_told)
    }

    /// Whether the broker is to be asked up to where everything is acknowledged.
    pub(super) fn has_to_learn(&self) -> bool {
        self.floor.is_none() || self.has_earlier() || self.is_behind()
    }

    /// Whether something may not be settled yet that was delivered before.
    pub(super) fn has_earlier(&self) -> bool {
        self.earlier != Earlier::Settled
    }

    /// The broker has `told` this when nothing had been pulled yet.
    fn open(&mut self, told: Told) {
        self.delivered = Some((told.deliveries, told.delivered));
        self.see(told.delivered);
        self.earlier = Earlier::UpTo(told.delivered);
    }

    /// Whether all that was delivered before is settled by what the broker has `told`, so that its copies may be removed.
    pub(super) fn is_past_earlier(&self, told: Told) -> bool {
        let is_settled = match self.earlier {
            Earlier::Settled => return false,
            Earlier::Unknown => told.settled >= told.delivered,
            Earlier::UpTo(last) => told.settled >= last,
        };
        (is_settled || told.in_hand == 0) && !self.expects_redeliveries()
    }

    /// The broker has `told` this, and copies of what was delivered before were removed, if all of it `is_past`.
    pub(super) fn learn(&mut self, told: Told, is_past: bool) {
        self.raise(told.settled);
        self.earlier = match self.earlier {
            _ if is_past => Earlier::Settled,
            Earlier::Unknown => Earlier::UpTo(told.delivered),
            known => known,
        };
    }

    /// How many are settled above the floor without a job between them that is not, and the last one's sequence. The newest
    /// of the stream does not count.
    pub(super) fn run(&self) -> (u64, u64) {
        let Some(floor) = self.floor else {
            return (0, 0);
        };
        let (mut run, mut end) = (0, floor);
        let above = floor + 1..self.newest.max(floor + 1);
        for (sequence, Settlement { behind, .. }) in self.settled.range(above) {
            if behind.is_none_or(|behind| behind > end) {
                break;
            }
            (run, end) = (run + 1, *sequence);
        }
        (run, end)
    }

    /// The fewest that are removed together. That takes the broker the longer the longer the stream, and must take less than
    /// acknowledging them would (ADR 29). It may have taken long by chance, so it is tried again.
    pub(super) fn worthwhile(&self) -> u64 {
        let Some((at, took)) = self.removal else {
            return WORTHWHILE;
        };
        let remembered = took.mul_f64(MEMORY.powf(at.elapsed().as_secs_f64()));
        let jobs = remembered.saturating_sub(CHEAP).as_nanos() / ACKNOWLEDGING.as_nanos();
        WORTHWHILE.max(jobs as u64)
    }

    /// Removing some just took so long.
    pub(super) fn removed_in(&mut self, took: Duration) {
        self.removal = Some((Instant::now(), took));
    }

    /// Whether nothing is removed now.
    pub(super) fn holds_off(&self) -> bool {
        self.has_earlier() || self.expects_redeliveries()
    }

    fn expects_redeliveries(&self) -> bool {
        self.removes_from.is_some_and(|then| Instant::now() < then)
    }

    /// Whether a job that is not settled is in front of those that are, with few before it.
    fn is_behind(&self) -> bool {
        let (run, _) = self.run();
        let newest = usize::from(self.settled.contains_key(&self.newest));
        run < WORTHWHILE && run < (self.settled.len() - newest) as u64
    }

    /// Everything up to `floor` is settled, and the broker knows.
    pub(super) fn raise(&mut self, floor: u64) {
        let floor = self.floor.unwrap_or_default().max(floor);
        self.floor = Some(floor);
        let above = self.settled.split_off(&(floor + 1));
        let told = std::mem::replace(&mut self.settled, above).into_values();
        told.filter_map(|settled| settled.leaving)
            .for_each(Leaving::say_told);
    }

    /// All that is settled, to tell the broker of it.
    pub(super) fn take_all(&mut self) -> Vec<Leaving> {
        self.earlier = Earlier::Settled;
        let all = std::mem::take(&mut self.settled).into_values();
        all.filter_map(|settled| settled.leaving).collect()
    }

    /// What has waited for `patience`, to tell the broker of it; and where nothing could be removed for so long, because a job
    /// is in the way or jobs may be delivered again, all: what comes behind does not wait for it as well.
    pub(super) fn take_late(&mut self, patience: Duration) -> Vec<Leaving> {
        let now = Instant::now();
        let is_blocked = self.is_behind() || self.holds_off();
        self.blocked = is_blocked.then(|| self.blocked.unwrap_or(now));
        let is_hopeless = self.blocked.is_some_and(|since| now - since >= patience);
        let late = if is_hopeless {
            Some(now)
        } else {
            now.checked_sub(patience)
        };
        late.map_or_else(Vec::new, |late| self.take_older_than(late))
    }

    /// What was settled before `then`, to tell the broker of it.
    pub(super) fn take_older_than(&mut self, then: Instant) -> Vec<Leaving> {
        let all = self
            .settled
            .values_mut()
            .map(|settled| &mut settled.leaving);
        let old = all.filter_map(|leaving| leaving.take_if(|leaving| leaving.since <= then));
        let old = old.collect();
        self.forget_told();
        old
    }

    /// Raises the floor above what the broker was told, and keeps no more than is worth it.
    fn forget_told(&mut self) {
        self.advance();
        if self.settled.len() > MOST_BEHIND {
            // Whatever is in front of them, it is in front for long.
            self.settled.retain(|_, settled| settled.leaving.is_some());
        }
    }

    fn advance(&mut self) {
        while let Some(floor) = self.floor
            && let Some(first) = self.settled.first_entry()
            && first.get().leaving.is_none()
            && first.get().behind.is_some_and(|behind| behind <= floor)
        {
            self.floor = Some(floor.max(*first.key()));
            first.remove();
        }
    }

    /// Forgets everything that came by an earlier connection than this; whether there was an earlier one.
    pub(super) fn renew(&mut self, connection: Connection) -> bool {
        let is_new = self.connection < connection;
        if is_new {
            *self = Self {
                connection,
                removes_from: self.removes_from,
                earlier: Earlier::Unknown,
                ..Self::default()
            };
        }
        is_new
    }
}

#[cfg(test)]
mod tests;
