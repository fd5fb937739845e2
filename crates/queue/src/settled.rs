//! Lets the broker forget settled jobs: together where all that came before them in their stream are settled as well, and
//! one by one where not (ADR 24).
//!
//! An acknowledgement of one job costs the broker a note in the stream that is synced, on every copy. Removing all of a
//! stream up to a sequence is one operation, however many that are; but it asks nobody whether what is removed is settled.
//! So this counts up from where the broker itself says that everything is acknowledged, and never past a job that was not
//! settled here. Nor is the newest of a stream ever removed with others. Schedules stand between deferred jobs: there what lies in front of a job is what was delivered before it.
//!
//! A removal has two more effects. nats-server forgets which jobs of the stream it was about to deliver again, and comes back to
//! them after `ack_wait` only: so nothing is removed for a while after a job was given back, or came again. And one that has
//! crashed may take jobs in hand for acknowledged then, and lose them: so nothing is removed until all is settled that was
//! delivered before the connection was made, or before this process began to pull.

mod line;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::message::Acker;
use async_nats::jetstream::stream::DirectGetErrorKind;
use async_nats::jetstream::{self, AckKind};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use model::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::QueueError;
use crate::connection::{Connection, Connections};
use crate::streams::WORKERS;

use self::line::Leaving;
pub(crate) use self::line::{Line, Others, Place, Told};

/// How often it is looked whether settled jobs can be removed.
const ROUND: Duration = Duration::from_millis(100);
/// How long few of them wait for more, and many for the one in front of them.
const PATIENCE: Duration = Duration::from_secs(1);
/// A part of `ack_wait`, which is never waited for: a job comes again then.
const PART_OF_ACK_WAIT: u32 = 4;
/// For how many times `ack_wait` nothing is removed: whatever is delivered again has come by then.
const REDELIVERIES: u32 = 2;
/// How often the broker is asked up to where everything is settled, while something is in the way, or in hand from before.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The broker writes down the state of the whole stream each time: it is left alone so many times as long as that took.
const PAUSES: u32 = 9;
/// How long the last acknowledgements of a process may take.
const FLUSHING: Duration = Duration::from_secs(5);

/// The settled jobs of every stream; cheap to clone.
#[derive(Clone)]
pub(crate) struct Settled {
    lines: Arc<Mutex<HashMap<Arc<str>, Arc<Line>>>>,
    new: mpsc::UnboundedSender<Arc<Line>>,
    jetstream: jetstream::Context,
    connections: Connections,
    /// Then no server alone knows what it was asked for.
    has_copies: bool,
    ack_wait: Duration,
    patience: Duration,
}

impl Settled {
    /// Nothing yet, and the task that has them forgotten. `connected` tells of every new connection: what was settled before is
    /// left to come again. Where streams have `copies` nothing is removed: there it is no cheaper.
    pub(crate) fn new(
        jetstream: jetstream::Context,
        copies: usize,
        ack_wait: Duration,
        connected: watch::Receiver<Timestamp>,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (new, lines) = mpsc::unbounded_channel();
        let settled = Self {
            lines: Arc::default(),
            new,
            connections: Connections::of(jetstream.client()),
            jetstream,
            has_copies: copies > 1,
            ack_wait,
            patience: PATIENCE.min(ack_wait / PART_OF_ACK_WAIT),
        };
        (settled.clone(), settled.keep(lines, connected))
    }

    /// Jobs of `line` may be delivered again before long.
    pub(crate) fn hold_off(&self, line: &Line) {
        line.lock().removes_from = Some(Instant::now() + self.ack_wait * REDELIVERIES);
    }

    /// The same, and waits until no removal is under way.
    pub(crate) async fn wait_off(&self, line: &Line) {
        let _ended = line.removing.lock().await;
        self.hold_off(line);
    }

    /// Has everything forgotten that is settled, at once.
    pub(crate) async fn flush(&self) {
        let lines: Vec<Arc<Line>> = self.lock().values().cloned().collect();
        let acknowledging = lines.iter().map(async |line| {
            let leaving = line.lock().take_older_than(Instant::now());
            self.acknowledge(leaving).await;
        });
        join_all(acknowledging).await;
        let client = self.jetstream.client();
        if tokio::time::timeout(FLUSHING, client.flush())
            .await
            .is_err()
        {
            tracing::debug!("settled jobs not told of, leaving them to redelivery");
        }
    }

    /// Those of `stream`, which are under the subject `jobs`, with `others` between them.
    pub(crate) fn line(&self, stream: &str, jobs: &str, others: Others) -> Arc<Line> {
        let mut lines = self.lock();
        if let Some(line) = lines.get(stream) {
            return Arc::clone(line);
        }
        let line = Arc::new(Line::new(stream, jobs, others));
        lines.insert(Arc::clone(&line.stream), Arc::clone(&line));
        // Nobody listens at the very end, when `flush` does the rest.
        let _ = self.new.send(Arc::clone(&line));
        line
    }

    async fn keep(
        self,
        mut new: mpsc::UnboundedReceiver<Arc<Line>>,
        mut connected: watch::Receiver<Timestamp>,
    ) {
        let mut lines = FuturesUnordered::new();
        loop {
            tokio::select! {
                line = new.recv() => match line {
                    Some(line) => lines.push(self.clear(line)),
                    None => return,
                },
                Some(()) = lines.next() => {}
                Ok(()) = connected.changed() => {
                    for line in self.lock().values() {
                        line.added.notify_one();
                    }
                }
            }
        }
    }

    /// Has what is settled of one stream forgotten, for ever.
    async fn clear(&self, line: Arc<Line>) {
        let mut asked = None;
        loop {
            line.filled().await;
            tokio::time::sleep(self.round()).await;
            let connection = self.connections.made().await;
            line.lock().renew(connection);
            let late = if self.removes() {
                self.learn_in_time(&line, &mut asked).await;
                self.remove_run(&line).await;
                line.lock().take_late(self.patience)
            } else {
                line.lock().take_all()
            };
            self.acknowledge(late).await;
        }
    }

    /// How often settled jobs are looked at. What is acknowledged together, the copies of a stream note together.
    fn round(&self) -> Duration {
        if self.removes() { ROUND } else { self.patience }
    }

    /// Whether what is settled leaves together. One of several servers may crash while the connection to another stays: then
    /// nobody would know that jobs are in hand from before.
    fn removes(&self) -> bool {
        !self.has_copies && !self.connections.lead_to_many()
    }

    /// Asks where to begin where that is not known, and up to where others have come where something is in the way; not all the
    /// time.
    async fn learn_in_time(&self, line: &Line, asked: &mut Option<Instant>) {
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN);
        if !is_due || !line.lock().has_to_learn() {
            return;
        }
        *asked = Some(Instant::now());
        if let Err(error) = self.learn(line).await {
            tracing::debug!(stream = %line.stream, %error, "acknowledged up to where is not known");
        }
    }

    /// Removes what is settled up to the first that is not, if that is worth it.
    async fn remove_run(&self, line: &Line) {
        let removing = line.removing.lock().await;
        let (end, connection) = {
            let state = line.lock();
            let (run, end) = state.run();
            if run < state.worthwhile() || state.holds_off() {
                return;
            }
            (end, state.connection)
        };
        if !self.is_current(connection) {
            return;
        }
        let began = Instant::now();
        let removed = self.remove_up_to(line, end).await;
        line.lock().removed_in(began.elapsed());
        match removed {
            Ok(()) => {
                let mut state = line.lock();
                if state.connection == connection {
                    state.raise(end);
                }
            }
            Err(error) => {
                tracing::debug!(stream = %line.stream, %error, "settled jobs not removed together");
                let leaving = line.lock().take_older_than(Instant::now());
                self.acknowledge(leaving).await;
            }
        }
        drop(removing);
        let pause = (began.elapsed() * PAUSES).min(self.patience);
        tokio::time::sleep(pause.saturating_sub(ROUND)).await;
    }

    /// Removes what is under the line's subject, up to and with `sequence`.
    ///
    /// Never without a subject, although all that stands there may be under it: nats-server 2.15.1 counts wrongly where nothing
    /// stands at the sequence up to which it removes everything, and removes what must stay the next time (ADR 24). By a
    /// subject it removes one message after the other, and costs no more.
    async fn remove_up_to(&self, line: &Line, sequence: u64) -> Result<(), QueueError> {
        let stream = self.jetstream.get_stream_no_info(&*line.stream).await;
        let stream = stream.map_err(QueueError::refused)?;
        let removing = stream.purge().filter(&*line.jobs).sequence(sequence + 1);
        removing.await.map(drop).map_err(QueueError::refused)
    }

    /// Learns up to where everything is settled, by the broker's own account. One that has crashed may have kept copies of it,
    /// which it gives to nobody: they are removed.
    async fn learn(&self, line: &Line) -> Result<(), QueueError> {
        let _removing = line.removing.lock().await;
        let connection = line.lock().connection;
        let told = self.ask(line).await?;
        let is_past = line.lock().is_past_earlier(told);
        if is_past && told.has_copies() && self.is_current(connection) {
            self.remove_up_to(line, told.settled).await?;
        }
        let mut state = line.lock();
        if state.connection == connection {
            state.learn(told, is_past);
        }
        Ok(())
    }

    async fn ask(&self, line: &Line) -> Result<Told, QueueError> {
        let stream = self.jetstream.get_stream_no_info(&*line.stream).await;
        let stream = stream.map_err(QueueError::refused)?;
        let info = stream.consumer_info(WORKERS).await;
        let told = Told::from(&info.map_err(QueueError::refused)?);
        if !line.lock().has_earlier() {
            return Ok(told);
        }
        let first = stream.direct_get_next_for_subject(&line.jobs, Some(1));
        match first.await {
            Ok(first) => Ok(told.with_first(first.sequence)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(told),
            Err(error) => Err(QueueError::refused(error)),
        }
    }

    /// Tells the broker of each, and waits until it has come to the last: it works them off in order.
    async fn acknowledge(&self, leaving: Vec<Leaving>) {
        let Some((last, others)) = leaving.split_last() else {
            return;
        };
        for Leaving {
            acker, connection, ..
        } in others
        {
            self.tell(acker, *connection, AckKind::Ack).await;
        }
        if self.is_current(last.connection) {
            match last.acker.double_ack_with(AckKind::Ack).await {
                Ok(()) => leaving.into_iter().for_each(Leaving::say_told),
                Err(error) => {
                    tracing::debug!(%error, "broker did not answer, leaving jobs to redelivery")
                }
            }
        }
    }

    /// Tells the broker what became of a job that came by `connection`, over no other.
    pub(crate) async fn tell(&self, acker: &Acker, connection: Connection, what: AckKind) {
        if !self.is_current(connection) {
            return;
        }
        if let Err(error) = acker.ack_with(what).await {
            tracing::debug!(%error, "broker not told, leaving the job to redelivery");
        }
    }

    /// Whether the broker is taken to remember what it gave us over `connection`: the process that it leads to is there still.
    pub(crate) fn remembers(&self, connection: Connection) -> bool {
        self.connections.remembers(connection)
    }

    fn is_current(&self, connection: Connection) -> bool {
        self.connections.current() == Some(connection)
    }

    /// Whether a job that was stored at `stored_at` may have been given to somebody by a broker that has forgotten that.
    pub(crate) fn may_have_given(&self, stored_at: Timestamp) -> bool {
        self.connections.may_have_given(stored_at)
    }

    /// The broker came up by `since`, by its own clock.
    pub(crate) fn came_up(&self, since: Timestamp) {
        self.connections.came_up(since);
    }

    /// Whether nothing comes any more of what was asked over `connection`: there is another, and no copies that could have it.
    pub(crate) fn is_cut_off(&self, connection: Connection) -> bool {
        let current = self.connections.current();
        !self.has_copies && current.is_some_and(|current| current != connection)
    }

    /// The connection there is, waiting for one, but not for ever.
    pub(crate) async fn connection(&self) -> Result<Connection, QueueError> {
        self.connections.made_in_time().await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
