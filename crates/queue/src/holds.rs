//! The table of pulled jobs, and the heartbeat that keeps them from being given to another worker.
//!
//! An in-progress acknowledgement proves nothing by itself: the broker takes late ones in silence, and answers late ones
//! even for a job that somebody else has by now. So each round ends, for every stream, with one that asks for a reply,
//! and the reply proves a hold only where it comes within `ack_wait` of the hold's last proof: until then the broker
//! cannot have given the job away. A hold that was not proven in time is lost for good (ADR 10).
//!
//! One promise the broker cannot keep: it forgets with its process, or with all its processes, to whom it gave what, and may give a
//! job that is in hand to somebody else as well. Such a hold says so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use futures_util::future::{join, join_all};
use model::{Clock as _, SystemClock, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::{CLOCKS, Connection};
use crate::settled::{Line, Others, Place, Settled};
use crate::{Pending, QueueError};

/// The share of `ack_wait` that must be left when a hold is relied on.
const MARGIN: u32 = 3;
/// How long to wait until the broker was told of a settled job.
const TELLING: Duration = Duration::from_secs(10);

/// A stream and a sequence in it: what the broker knows a job by.
type Key = (Arc<str>, u64);

struct Entry {
    acker: Arc<Acker>,
    line: Arc<Line>,
    place: Place,
    proof: Proof,
    /// Whether a broker had given it to us that is no more, or has forgotten it.
    was_given_before: bool,
    /// Tells this hold from every other of the same job: one that was lost may outlive those that came after it.
    generation: u64,
}

/// Until when the broker is sure to keep a job for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// For `ack_wait` from this moment on.
    Since(Instant),
    /// It may have given the job to somebody else.
    Lost,
}

impl Proof {
    /// What an answer at `answered` to a question asked at `asked` makes of this proof.
    fn renewed(self, asked: Instant, answered: Instant, ack_wait: Duration) -> Self {
        match self {
            Self::Since(proven) if answered.saturating_duration_since(proven) < ack_wait => {
                Self::Since(asked.max(proven))
            }
            Self::Since(_) | Self::Lost => Self::Lost,
        }
    }

    /// Whether it holds at `now` with a margin.
    fn holds(self, now: Instant, ack_wait: Duration) -> bool {
        match self {
            Self::Since(proven) => {
                now.saturating_duration_since(proven) < ack_wait - ack_wait / MARGIN
            }
            Self::Lost => false,
        }
    }

    /// Whether it is past all renewing at `now`.
    fn is_lost(self, now: Instant, ack_wait: Duration) -> bool {
        match self {
            Self::Since(proven) => now.saturating_duration_since(proven) >= ack_wait,
            Self::Lost => true,
        }
    }
}

/// The jobs of one stream, for one question.
type Held = Vec<(u64, Arc<Acker>)>;

/// What this process holds; cheap to clone.
#[derive(Clone)]
pub struct Holds {
    entries: Arc<Mutex<HashMap<Key, Entry>>>,
    generations: Arc<AtomicU64>,
    settled: Arc<Settled>,
    ack_wait: Duration,
}

impl std::fmt::Debug for Holds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holds")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl Holds {
    /// An empty table, and what is to run beside it: the heartbeat, and `forgetting` of what is `settled`.
    pub(crate) fn new<Forgetting>(
        ack_wait: Duration,
        (settled, forgetting): (Settled, Forgetting),
    ) -> (Self, impl Future<Output = ()> + Send + use<Forgetting>)
    where
        Forgetting: Future<Output = ()> + Send,
    {
        let holds = Self {
            entries: Arc::default(),
            generations: Arc::default(),
            settled: Arc::new(settled),
            ack_wait,
        };
        let keep = holds.clone().keep();
        (holds, async {
            join(keep, forgetting).await;
        })
    }

    /// The settled jobs of `stream`, which are under the subject `jobs`, with `others` between them.
    pub(crate) fn line(&self, stream: &str, jobs: &str, others: Others) -> Arc<Line> {
        self.settled.line(stream, jobs, others)
    }

    /// The connection there is, waiting for one, but not for ever.
    pub(crate) async fn connection(&self) -> Result<Connection, QueueError> {
        self.settled.connection().await
    }

    /// The queue came up by `since`, by its own clock: what it has from before it may have given to somebody, and have forgotten that.
    /// When it comes up again is seen here.
    pub fn came_up(&self, since: Timestamp) {
        self.settled.came_up(since);
    }

    /// The queue goes on as if it had just come up.
    pub(crate) fn came_up_anew(&self) {
        let now = SystemClock.now();
        self.came_up(now.checked_add(CLOCKS).unwrap_or(now));
    }

    /// Whether a job that was stored at `stored_at` may have been given to somebody by a broker that has forgotten that.
    pub(crate) fn may_have_given(&self, stored_at: Timestamp) -> bool {
        self.settled.may_have_given(stored_at)
    }

    /// Whether nothing comes any more of what was asked over `connection`.
    pub(crate) fn is_cut_off(&self, connection: Connection) -> bool {
        self.settled.is_cut_off(connection)
    }

    /// Jobs of `line` that others had in hand may come again before long.
    pub(crate) fn hold_off(&self, line: &Line) {
        self.settled.hold_off(line);
    }

    /// Tells the broker of every settled job that it was not told of yet: the end of a process.
    pub async fn flush(&self) {
        self.settled.flush().await;
    }

    /// Holds a job that a pull begun at `pulled_at` brought.
    ///
    /// A redelivery of a job whose hold is good refreshes that hold and answers `None`: the job is in hand. One whose
    /// hold was lost is a new hold; the earlier one stays lost, because the job may have been elsewhere meanwhile.
    pub(crate) fn take(
        &self,
        line: &Arc<Line>,
        place: Place,
        acker: Acker,
        pulled_at: Instant,
    ) -> Option<Hold> {
        let key = (Arc::clone(line.stream()), place.sequence);
        let (acker, proof) = (Arc::new(acker), Proof::Since(pulled_at));
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&key)
            && !entry.proof.is_lost(Instant::now(), self.ack_wait)
        {
            entry.was_given_before |= self.has_forgotten(entry);
            (entry.acker, entry.place, entry.proof) = (acker, place, proof);
            return None;
        }
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        entries.insert(
            key.clone(),
            Entry {
                acker,
                line: Arc::clone(line),
                place,
                proof,
                was_given_before: false,
                generation,
            },
        );
        let holds = self.clone();
        Some(Hold {
            claim: Claim {
                key,
                generation,
                holds,
            },
        })
    }

    /// How many jobs are held.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    async fn keep(self) {
        let mut rounds = tokio::time::interval(self.ack_wait / 3);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.beat().await;
        }
    }

    /// One round: a sign of life for every job, and a proof for every stream.
    async fn beat(&self) {
        let mut streams: HashMap<Arc<str>, Held> = HashMap::new();
        for ((stream, sequence), entry) in self.lock().iter() {
            if entry.proof != Proof::Lost {
                let held = (*sequence, Arc::clone(&entry.acker));
                streams.entry(Arc::clone(stream)).or_default().push(held);
            }
        }
        join_all(
            streams
                .into_iter()
                .map(|(stream, held)| self.prove(stream, held)),
        )
        .await;
    }

    async fn prove(&self, stream: Arc<str>, held: Held) {
        let asked = Instant::now();
        if let Err(error) = ask(&held).await {
            tracing::warn!(%stream, %error, held = held.len(), "holds not proven");
            return;
        }
        let answered = Instant::now();
        let mut entries = self.lock();
        for (sequence, _) in held {
            if let Some(entry) = entries.get_mut(&(Arc::clone(&stream), sequence)) {
                entry.proof = entry.proof.renewed(asked, answered, self.ack_wait);
            }
        }
    }

    /// Whether the broker may have forgotten that it gave us this.
    fn has_forgotten(&self, entry: &Entry) -> bool {
        let place = entry.place;
        place.forgot != entry.line.times_forgotten() || !self.settled.remembers(place.connection)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In-progress for every job, the last of them as a question.
async fn ask(held: &[(u64, Arc<Acker>)]) -> Result<(), QueueError> {
    let Some(((_, last), rest)) = held.split_last() else {
        return Ok(());
    };
    for (_, acker) in rest {
        acker
            .ack_with(AckKind::Progress)
            .await
            .map_err(QueueError::refused)?;
    }
    last.double_ack_with(AckKind::Progress)
        .await
        .map_err(QueueError::refused)
}

/// Looks at a hold and does not hold: the hold may end meanwhile. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Claim {
    key: Key,
    generation: u64,
    holds: Holds,
}

impl Claim {
    /// Whether the broker is sure to keep the job for us for a while yet.
    pub fn is_proven(&self) -> bool {
        let entries = self.holds.lock();
        let entry = self.entry(&entries);
        entry.is_some_and(|entry| entry.proof.holds(Instant::now(), self.holds.ack_wait))
    }

    /// `None` where another hold of the job has taken this one's place.
    fn entry<'entries>(&self, entries: &'entries HashMap<Key, Entry>) -> Option<&'entries Entry> {
        let entry = entries.get(&self.key);
        entry.filter(|entry| entry.generation == self.generation)
    }
}

/// One held job. Dropping it ends the hold: the broker gives the job to somebody after `ack_wait`.
#[derive(Debug)]
pub struct Hold {
    claim: Claim,
}

impl Hold {
    /// Whether the broker is sure to keep the job for us for a while yet: asked before anything that another worker
    /// must not do as well.
    pub fn is_proven(&self) -> bool {
        self.claim.is_proven()
    }

    /// Whether somebody else may have been given the job as well: its broker has died since and forgot, or is not there to say
    /// that it has not.
    pub fn may_be_shared(&self) -> bool {
        let holds = &self.claim.holds;
        let entries = holds.lock();
        let entry = self.claim.entry(&entries);
        entry.is_some_and(|entry| entry.was_given_before || holds.has_forgotten(entry))
    }

    /// Whether `pending` was stored behind the job, in the same stream: then it is not what the job has come of.
    ///
    /// Of a stream with copies one server gives out jobs, and another says what stands in it: that one may be a moment behind, and still
    /// show the schedule that the job has come of. A server that was killed may show it as well, until it fires once more.
    pub fn is_followed_by(&self, pending: &Pending) -> bool {
        let (stream, sequence) = &self.claim.key;
        **stream == *pending.stream && *sequence < pending.sequence
    }

    /// For whoever has to know how long the hold lasts.
    pub fn claim(&self) -> Claim {
        self.claim.clone()
    }

    /// Settles the job: the broker forgets it at once.
    pub async fn settle_now(self) {
        let Some((acker, line, place)) = self.entry() else {
            return;
        };
        line.add_told(place);
        self.tell(&acker, place, AckKind::Ack).await;
    }

    /// Settles the job: the broker forgets it within a second or two.
    pub fn settle(self) {
        drop(self.leave());
    }

    /// The same, and waits until the broker was told, but not for ever; answers whether it was.
    ///
    /// Acknowledgements that it works off one after the other are each synced. Whoever settles faster than that lets them
    /// pile up: jobs that were settled long ago come again, and proofs of holds come too late.
    pub async fn settle_and_wait(self) -> bool {
        let Some(told) = self.leave() else {
            return false;
        };
        matches!(tokio::time::timeout(TELLING, told).await, Ok(Ok(())))
    }

    /// Counts the job among the settled ones of its stream.
    fn leave(&self) -> Option<oneshot::Receiver<()>> {
        let (acker, line, place) = self.entry()?;
        Some(line.add(place, acker))
    }

    /// Gives the job back, for another worker to take at once.
    pub async fn release(self) {
        self.give_back(None).await;
    }

    /// Gives the job back, for another worker to take after `delay`.
    pub async fn postpone(self, delay: Duration) {
        self.give_back(Some(delay)).await;
    }

    async fn give_back(self, delay: Option<Duration>) {
        let Some((acker, line, place)) = self.entry() else {
            return;
        };
        self.claim.holds.settled.wait_off(&line).await;
        self.tell(&acker, place, AckKind::Nak(delay)).await;
    }

    async fn tell(&self, acker: &Acker, place: Place, what: AckKind) {
        let settled = &self.claim.holds.settled;
        settled.tell(acker, place.connection, what).await;
    }

    /// What answers the broker, and what is settled with it; `None` where another hold of the job has taken this one's place.
    fn entry(&self) -> Option<(Arc<Acker>, Arc<Line>, Place)> {
        let entries = self.claim.holds.lock();
        let entry = self.claim.entry(&entries)?;
        let (acker, line) = (Arc::clone(&entry.acker), Arc::clone(&entry.line));
        Some((acker, line, entry.place))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut entries = self.claim.holds.lock();
        if self.claim.entry(&entries).is_some() {
            entries.remove(&self.claim.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(30);

    fn after(seconds: u64) -> Instant {
        // One moment of the paused clock, so that the numbers are seconds from the pull.
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_proves_from_the_moment_of_the_question() {
        let proof = Proof::Since(after(0)).renewed(after(10), after(11), ACK_WAIT);
        assert_eq!(proof, Proof::Since(after(10)));
        assert!(proof.holds(after(29), ACK_WAIT) && !proof.holds(after(30), ACK_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_after_the_broker_may_have_given_the_job_away_proves_nothing() {
        let stopped = Proof::Since(after(0)).renewed(after(40), after(40), ACK_WAIT);
        assert_eq!(stopped, Proof::Lost);
        assert_eq!(stopped.renewed(after(41), after(41), ACK_WAIT), Proof::Lost);
        assert!(!stopped.holds(after(41), ACK_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_proves_nothing_either() {
        let slow = Proof::Since(after(0)).renewed(after(10), after(31), ACK_WAIT);
        assert_eq!(slow, Proof::Lost);
    }
}
