//! What is settled of one stream, and how much of it may leave together (ADR 24).
//!
//! Pure state behind one lock; asks nobody. What it answers is never past a job that was not settled here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::message::Acker;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::connection::Connection;

/// Removing so many together is cheaper than one by one.
pub(super) const WORTHWHILE: u64 = 16;
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

    /// The broker has made `deliveries`, of jobs up to `sequence`, by what it says over `connection`.
    pub(crate) fn delivered(&self, connection: Connection, deliveries: u64, sequence: u64) {
        let mut state = self.lock();
        state.renew(connection);
        if state.connection == connection {
            state.delivered = Some((deliveries, sequence));
            state.see(sequence);
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
        let mut state = self.lock();
        state.renew(connection);
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
        }
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the broker may keep of jobs that are settled, and give to nobody: it crashed, and had written what was acknowledged
/// and not what it removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Copies {
    /// Nothing.
    #[default]
    None,
    /// Whatever it had delivered when it crashed, which is not known yet.
    Any,
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
    copies: Copies,
}

impl State {
    /// Counts the job at `sequence` as settled. One up to the floor has come again: the broker has lost what it was told with
    /// its leader, and the floor is what it says next.
    fn settle(&mut self, place: Place, leaving: Option<Leaving>) {
        let Place {
            connection,
            sequence,
            behind,
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
        !self.has_copies() && self.settled.values().all(is_told)
    }

    /// Whether the broker is to be asked up to where everything is acknowledged.
    pub(super) fn has_to_learn(&self) -> bool {
        self.floor.is_none() || self.has_copies() || self.is_behind()
    }

    /// Whether the broker may have copies of what is settled.
    pub(super) fn has_copies(&self) -> bool {
        self.copies != Copies::None
    }

    /// The broker says that everything up to `floor` is acknowledged of what it delivered, up to `delivered`; copies up to
    /// `floor` were removed, if `are_removed`. Those above it stand among jobs that are not settled yet.
    pub(super) fn learn(&mut self, floor: u64, delivered: u64, are_removed: bool) {
        self.raise(floor);
        let last = match self.copies {
            Copies::None => return,
            Copies::Any => delivered,
            Copies::UpTo(last) => last,
        };
        self.copies = if are_removed && floor >= last {
            Copies::None
        } else {
            Copies::UpTo(last)
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

    pub(super) fn holds_off(&self) -> bool {
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
        self.copies = Copies::None;
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

    /// Forgets everything that came by an earlier connection than this.
    pub(super) fn renew(&mut self, connection: Connection) {
        if self.connection < connection {
            *self = Self {
                connection,
                removes_from: self.removes_from,
                copies: Copies::Any,
                ..Self::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job of a stream in which nothing else stands.
    fn place(sequence: u64) -> Place {
        Place {
            connection: Connection::default(),
            sequence,
            behind: Some(sequence - 1),
        }
    }

    /// A line in which these are settled, and the broker was told; more stands behind them.
    fn settled(sequences: impl IntoIterator<Item = u64>) -> State {
        let mut state = State::default();
        state.see(100);
        for sequence in sequences {
            state.settle(place(sequence), None);
        }
        state
    }

    #[test]
    fn nothing_is_removed_before_the_broker_has_said_where_to_begin() {
        let mut state = settled(1..=20);
        assert_eq!(state.run(), (0, 0));
        state.raise(0);
        assert_eq!(state.run(), (20, 20));
    }

    #[test]
    fn a_job_that_is_not_settled_ends_the_run() {
        let mut state = settled((6..=30).filter(|sequence| *sequence != 20));
        state.raise(5);
        assert_eq!(state.run(), (14, 19));
        state.raise(19);
        assert_eq!(state.run(), (0, 19), "20 is in somebody's hands");
        state.settle(place(20), None);
        assert_eq!(state.run(), (11, 30));
    }

    #[test]
    fn the_first_that_is_not_settled_is_never_passed() {
        let mut state = settled(8..=30);
        state.raise(5);
        assert_eq!(state.run(), (0, 5));
        state.advance();
        assert_eq!(state.floor, Some(5));
    }

    #[test]
    fn the_newest_of_a_stream_stays() {
        let mut state = settled([]);
        for sequence in 80..=100 {
            state.settle(place(sequence), None);
        }
        state.raise(79);
        assert_eq!((state.run(), state.is_behind()), ((20, 99), false));
        state.see(101);
        assert_eq!(state.run(), (21, 100));
    }

    #[test]
    fn the_floor_never_sinks() {
        let mut state = settled(1..=30);
        state.raise(25);
        state.raise(10);
        assert_eq!((state.floor, state.run()), (Some(25), (5, 30)));
    }

    #[test]
    fn what_was_acknowledged_one_by_one_needs_no_removing() {
        let mut state = settled([1, 2, 3, 5]);
        state.raise(0);
        state.advance();
        assert_eq!((state.floor, state.run()), (Some(3), (0, 3)));
    }

    #[test]
    fn a_job_that_comes_again_is_settled_again() {
        let mut state = settled(1..=30);
        state.raise(0);
        state.advance();
        assert_eq!(state.floor, Some(30));
        state.settle(place(20), None);
        assert_eq!(state.floor, None, "the broker has not heard of it");
        state.raise(19);
        assert_eq!(state.run(), (1, 20));
    }

    #[test]
    fn what_is_delivered_in_order_has_only_schedules_between() {
        let mut state = State::default();
        assert_eq!(state.follow(10, 1, 100), None, "nothing came before");
        assert_eq!(state.follow(15, 1, 101), Some(10));
        assert_eq!(state.follow(16, 1, 102), Some(15));
        assert_eq!(state.follow(40, 1, 104), None, "somebody else has 103");
        assert_eq!(state.follow(41, 1, 105), Some(40));
    }

    #[test]
    fn what_is_delivered_again_stands_between_deliveries_and_not_between_jobs() {
        let mut state = State::default();
        assert_eq!(state.follow(10, 1, 100), None);
        assert_eq!(state.follow(7, 2, 101), None);
        assert_eq!(state.follow(15, 1, 102), Some(10));
        assert_eq!(state.follow(8, 2, 104), None, "103 was missed");
        assert_eq!(state.follow(20, 1, 105), None);
    }

    #[test]
    fn jobs_among_schedules_leave_up_to_what_is_not_known_to_follow() {
        let mut state = State::default();
        state.see(100);
        for (sequence, behind) in [(10, Some(4)), (15, Some(10)), (40, None)] {
            let place = place(sequence);
            state.settle(Place { behind, ..place }, None);
        }
        state.raise(4);
        assert_eq!(state.run(), (2, 15));
        state.advance();
        assert_eq!((state.floor, state.run()), (Some(15), (0, 15)));
        state.raise(39);
        assert_eq!(
            state.run(),
            (0, 39),
            "39 may be a schedule, or not the last"
        );
    }

    #[test]
    fn a_new_connection_begins_anew() {
        let (mut state, next) = (settled(1..=30), Connection::default().next());
        state.raise(0);
        state.follow(40, 1, 9);
        state.renew(next);
        assert_eq!((state.floor, state.run()), (None, (0, 0)));
        assert_eq!(state.follow(41, 1, 10), None);
    }

    #[test]
    fn copies_are_looked_for_until_all_is_settled_that_was_delivered_before() {
        let mut state = settled([]);
        assert!(!state.has_copies());
        state.renew(Connection::default().next());
        assert!(state.has_copies());
        state.learn(30, 90, true);
        assert!(state.has_copies(), "between 30 and 90");
        state.learn(95, 120, false);
        assert!(state.has_copies(), "they were not removed");
        state.learn(95, 120, true);
        assert!(!state.has_copies());
    }

    #[test]
    fn what_came_by_an_earlier_connection_is_another_job_now() {
        let (mut state, next) = (settled(1..=30), Connection::default().next());
        state.renew(next);
        state.see(100);
        state.raise(0);
        state.settle(place(1), None);
        assert_eq!(state.run(), (0, 0));
        let connection = next;
        state.settle(
            Place {
                connection,
                ..place(1)
            },
            None,
        );
        assert_eq!(state.run(), (1, 1));
        state.renew(Connection::default());
        assert_eq!(state.run(), (1, 1), "what is renewed stays so");
    }
}
