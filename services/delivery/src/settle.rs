//! Makes the outcome of an attempt durable, and only then lets the queue forget the job (ADR 4).
//!
//! A terminal outcome: marker, event, acknowledgement. A deferral: next schedule, event, acknowledgement. Killed
//! between any two of these steps, the job comes back, finds its marker or its schedule, and goes on from there.

use std::sync::Arc;
use std::time::Duration;

use history::History;
use model::{Body, Clock, Domain, Event, EventKind, Job, JobId, Timestamp};
use queue::{Blobs, EventRecorder, Hold, Publisher, QueueError, Sharing, Stage};
use runtime::Shutdown;
use tokio::sync::{Semaphore, oneshot};

use crate::copies::OnlyCopy;
use crate::judge::Judgement;
use crate::window::Place;

/// The first pause before a schedule that was not stored is published again, and the longest: whatever the queue has no
/// room for must not keep it busy.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// How often the marker of a job is renewed whose end the queue does not record.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long events of jobs that have ended are waited for at shutdown.
pub(crate) const LAST_EVENTS: Duration = Duration::from_secs(10);
/// A body of at most this many octets waits within its job.
const LIGHT: usize = 4 << 10;
/// How many jobs from overflow lanes a worker puts back at a time. Who stands behind them waits for a campaign anyway; more would take
/// the queue's time from everybody else (ADR 29).
pub(crate) const OVERFLOWED_AT_ONCE: usize = 96;
/// How long a marker lives for a job that another worker may have been given: longer than any is parked.
const SHARED_MARKER_TTL: Duration = Duration::from_secs(3 * 3600);
/// How long a marker lives for a job that was neither deferred nor redelivered: far beyond any redelivery.
const MARKER_TTL: Duration = Duration::from_secs(15 * 60);

/// A job and the claim on it.
#[derive(Debug)]
pub(crate) struct InHand {
    pub(crate) job: Job,
    pub(crate) hold: Hold,
    /// That no other copy of it is in hand.
    pub(crate) copy: OnlyCopy,
    pub(crate) stage: Stage,
    pub(crate) redelivered: bool,
    /// Whether another worker may have been given it, or a copy that an earlier call stored.
    pub(crate) may_have_been_given: bool,
    /// When the broker stored it.
    pub(crate) stored_at: Timestamp,
    /// Whether it came through an overflow lane, and so may have a twin in its domain's.
    pub(crate) overflowed: bool,
    /// The domain that stands for the provider whose own lane it came from.
    pub(crate) owner: Option<Domain>,
    /// Its place in the window, free again when this is dropped.
    pub(crate) place: Place,
}

impl InHand {
    /// Whether it may have been in other hands, or be there now. What came through an overflow lane seldom was: a whole campaign
    /// comes so, and would have a schedule for each job.
    fn may_have_been_had(&self) -> bool {
        self.redelivered || self.may_be_shared()
    }

    /// Whether another worker may be about to send it, or its twin.
    pub(crate) fn is_to_be_reserved(&self) -> bool {
        self.overflowed || self.may_be_shared()
    }

    /// Whether another worker may have been given it as well, or an earlier call's copy, before or since.
    pub(crate) fn may_be_shared(&self) -> bool {
        self.may_have_been_given || self.hold.may_be_shared()
    }

    /// Whether its next schedule may be one with others': not where somebody else may have stored one, which its own replaces.
    fn sharing(&self) -> Sharing {
        match self.may_have_been_had() {
            true => Sharing::Own,
            false => Sharing::WithOthers,
        }
    }

    /// Gives the job back, for any worker to take at once. It was not attempted.
    pub(crate) async fn give_back(self) {
        self.hold.release().await;
    }

    /// Gives the job back, for any worker to take after `delay`. It was not attempted.
    pub(crate) async fn postpone(self, delay: Duration) {
        self.hold.postpone(delay).await;
    }
}

/// Held by a settlement until its marker is written; whoever has the other end waits for that.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    _told: Option<oneshot::Sender<()>>,
}

impl Marked {
    /// Tells whoever has the other end of `told`, by dropping it.
    pub(crate) fn telling(told: oneshot::Sender<()>) -> Self {
        Self { _told: Some(told) }
    }
}

/// Settles jobs.
pub(crate) struct Settler {
    pub(crate) publisher: Publisher,
    pub(crate) blobs: Blobs,
    pub(crate) events: EventRecorder,
    pub(crate) history: History,
    pub(crate) clock: Arc<dyn Clock>,
    /// The soonest a job may come back that was not attempted: twice `ack_wait`. If its worker dies before the job is
    /// settled, the redelivery then finds the schedule, and not a second job on its way.
    pub(crate) soonest: Duration,
    /// Turns to put back what came through an overflow lane.
    pub(crate) overflow_turns: Semaphore,
    pub(crate) shutdown: Shutdown,
}

impl Settler {
    /// Makes `judgement` of `held` durable and lets the queue forget the job.
    pub(crate) async fn settle(&self, held: InHand, judgement: Judgement) {
        self.settle_telling(held, judgement, Marked::default())
            .await;
    }

    /// The same, and drops `marked` as soon as a marker says how the job ended, or none is going to.
    pub(crate) async fn settle_telling(&self, held: InHand, judgement: Judgement, marked: Marked) {
        let Judgement {
            event,
            next_attempt_at,
        } = judgement;
        // What was delivered is delivered. Anything else is for whoever has the job now to decide.
        if event.kind != EventKind::Delivered && !held.hold.is_proven() {
            return tracing::info!(job = %held.job.id, "hold not proven, job left to others");
        }
        let settled = match next_attempt_at {
            Some(at) => self.defer(held, event, at).await,
            None => self.end(held, event, marked).await,
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "job not settled, leaving it to redelivery");
        }
    }

    /// Records the outcome an earlier run of this job left behind, and forgets the job.
    pub(crate) async fn settle_again(
        &self,
        held: InHand,
        event: Vec<u8>,
    ) -> Result<(), QueueError> {
        self.record(event).await?;
        held.hold.settle();
        Ok(())
    }

    async fn end(&self, held: InHand, event: Event, marked: Marked) -> Result<(), QueueError> {
        let ttl = self.marker_ttl(&held);
        let InHand {
            job,
            hold,
            redelivered,
            ..
        } = held;
        let mut encoded = api::encode_event(&event);
        match self.history.mark_done(job.id, &encoded, ttl).await {
            Ok(None) => {}
            Ok(Some(earlier)) => {
                tracing::info!(job = %job.id, "job had ended before, its first ending stands");
                encoded = earlier.to_vec();
            }
            Err(error) => tracing::debug!(job = %job.id, %error, "marker not written"),
        }
        drop(marked);
        self.record_marked(job.id, encoded, ttl).await?;
        if redelivered {
            // A run that died behind its schedule would otherwise see the job sent once more.
            self.publisher
                .purge_schedule(job.class, job.destination(), job.id)
                .await?;
        }
        if let Body::Blob(name) = &job.body {
            // Should the job come again without its marker, it has to find its body.
            if hold.settle_and_wait().await {
                self.discard_body(job.id, name).await;
            }
        } else {
            hold.settle();
        }
        Ok(())
    }

    async fn defer(&self, held: InHand, event: Event, at: Timestamp) -> Result<(), QueueError> {
        let sharing = held.sharing();
        let InHand { mut job, hold, .. } = held;
        job.attempt = event.attempt;
        if !self.schedule(&mut job, &hold, at, sharing, None).await {
            return Ok(());
        }
        self.record(api::encode_event(&event)).await?;
        // Until then a redelivery has to find the schedule, which fires before long.
        hold.settle_now().await;
        Ok(())
    }

    /// Puts the job back into the queue for `delay`. It was not attempted.
    pub(crate) async fn park(&self, held: InHand, delay: Duration) {
        if !held.hold.is_proven() {
            return tracing::info!(job = %held.job.id, "hold not proven, job left to others");
        }
        let sharing = held.sharing();
        let turns = held.overflowed.then_some(&self.overflow_turns);
        let InHand { mut job, hold, .. } = held;
        let at = self.after(delay.max(self.soonest));
        if !self.schedule(&mut job, &hold, at, sharing, turns).await {
            return;
        }
        // A backlog is parked no faster than the broker forgets it: until then a job keeps its place.
        hold.settle_and_wait().await;
    }

    /// Stores the job's next schedule, however long that takes, and answers whether it is stored. Its body is set aside
    /// first. It is not where the hold is lost meanwhile: then the job is for whoever has it now.
    ///
    /// A schedule that was stored and not acknowledged must not fire before it is stored again, so each repetition
    /// lies far enough ahead, and replaces the one before under the job's own subject. There a job that may have a twin
    /// belongs from the first: it has that of its twin replaced, too.
    ///
    /// Where there are `turns`, it has one while it stores, and none while it waits to try again.
    async fn schedule(
        &self,
        job: &mut Job,
        hold: &Hold,
        mut at: Timestamp,
        mut sharing: Sharing,
        turns: Option<&Semaphore>,
    ) -> bool {
        let mut pause = PAUSE;
        loop {
            let mut turn = None;
            if let Some(turns) = turns {
                turn = turns.acquire().await.ok();
                at = at.max(self.after(self.soonest));
            }
            if !hold.is_proven() {
                tracing::info!(job = %job.id, "hold not proven, job left to others");
                return false;
            }
            self.set_body_aside(job).await;
            let payload = api::encode_job(job).into();
            let (publisher, class, to) = (&self.publisher, job.class, job.destination());
            let stored = publisher.schedule(class, to, job.id, at, payload, sharing);
            let error = match stored.await {
                Ok(()) => return true,
                // It may wait already, and would wait twice. When it comes again that is known.
                Err(QueueError::NotKnown) => {
                    tracing::info!(job = %job.id, "not known whether scheduled, job left to others");
                    return false;
                }
                Err(error) => error,
            };
            drop(turn);
            tracing::warn!(job = %job.id, %error, "schedule not stored, publishing again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            at = at.max(self.after(self.soonest));
            sharing = Sharing::Own;
        }
    }

    /// Takes a body that is not small out of the job, so that however often the job waits it is written once. Where that
    /// fails the body stays in the job.
    async fn set_body_aside(&self, job: &mut Job) {
        let Body::Inline(body) = &job.body else {
            return;
        };
        if body.len() <= LIGHT {
            return;
        }
        match self.blobs.set_aside(job.id, body).await {
            Ok(name) => job.body = Body::Blob(name),
            Err(error) => tracing::debug!(job = %job.id, %error, "body not set aside"),
        }
    }

    /// Removes a body that was set aside. What stays is collected by its age.
    async fn discard_body(&self, job: JobId, name: &str) {
        if let Err(error) = self.blobs.remove(name).await {
            tracing::debug!(%job, %error, "body not removed");
        }
    }

    fn after(&self, delay: Duration) -> Timestamp {
        self.clock
            .now()
            .checked_add(delay)
            .unwrap_or(Timestamp::MAX)
    }

    /// Records the event that ended a job. A queue that takes none for hours, because it is full, must not outlast the
    /// marker: what it then delivers once more would be sent twice.
    async fn record_marked(
        &self,
        job: JobId,
        event: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), QueueError> {
        let recording = self.record(event.clone());
        tokio::pin!(recording);
        loop {
            match tokio::time::timeout(RENEWAL, &mut recording).await {
                Ok(recorded) => return recorded,
                Err(_) => match self.history.keep_done(job, &event, ttl).await {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%job, %error, "marker not renewed"),
                },
            }
        }
    }

    /// Waits until an event is stored; at shutdown not for ever. A job whose event is not comes again, and finds what became
    /// of it.
    async fn record(&self, event: Vec<u8>) -> Result<(), QueueError> {
        let recording = async {
            let recorded = self.events.record(event).await?;
            let recorded = recorded.await;
            recorded.map_err(|_| QueueError::Refused("the event recorder has ended".to_owned()))
        };
        let too_late = async {
            self.shutdown.requested().await;
            tokio::time::sleep(LAST_EVENTS).await;
        };
        tokio::select! {
            recorded = recording => recorded,
            () = too_late => Err(QueueError::NotKnown),
        }
    }

    /// A twin, which a job that was deferred may have as well, must find the marker for as long as it may live. What another
    /// worker may have been given that one may have parked.
    fn marker_ttl(&self, held: &InHand) -> Duration {
        let remaining = self.clock.now().duration_until(held.job.expires_at);
        let remaining = Duration::try_from(remaining).unwrap_or_default();
        match held.stage {
            Stage::Ready if !held.may_have_been_had() => MARKER_TTL,
            Stage::Ready if !held.redelivered => SHARED_MARKER_TTL,
            Stage::Ready | Stage::Deferred => MARKER_TTL.max(remaining),
        }
    }
}
