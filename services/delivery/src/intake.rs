//! Screens a pulled job, finds its route and hands it to its site.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use history::History;
use model::{Body, Clock, Job, JobId, Provider, Timestamp, Verdict};
use queue::{Publisher, Pulled, QueueError, Stage, Tombstones};
use routing::{RouteError, Routing};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::judge::{Judge, Outcome};
use crate::settle::{InHand, Settler};
use crate::sites::Sites;
use crate::window::Place;

/// When a job that this build cannot read is looked at again, by a newer build one hopes.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// The pauses before a marker that could not be read is asked for again; longer together than Redis needs to fail over.
const MARKER_PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(1000),
    Duration::from_millis(2500),
];

/// Screens jobs; one for the whole worker.
pub(crate) struct Intake {
    pub(crate) routing: Arc<Routing>,
    pub(crate) history: History,
    pub(crate) publisher: Publisher,
    pub(crate) settler: Arc<Settler>,
    pub(crate) judge: Arc<Judge>,
    pub(crate) sites: Sites,
    pub(crate) tombstones: Tombstones,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the connection to the queue was made.
    pub(crate) connections: watch::Receiver<Instant>,
    pub(crate) ack_wait: Duration,
}

impl Intake {
    /// Takes one job from the queue to its site, or settles it where nothing is left to send.
    pub(crate) async fn take(&self, pulled: Pulled, place: Place) {
        let Some(held) = self.read(pulled, place).await else {
            return;
        };
        let Some(held) = self.recall(held).await else {
            return;
        };
        let Some(held) = self.screen(held).await else {
            return;
        };
        match self.routing.resolve(held.job.destination()).await {
            Ok(route) => self.sites.push(route, held),
            Err(error) => self.unroutable(held, &error).await,
        }
    }

    /// The job in these bytes. One that cannot be read stays in the queue, loudly.
    async fn read(&self, pulled: Pulled, place: Place) -> Option<InHand> {
        let Pulled {
            payload,
            redelivered,
            stage,
            overflowed,
            hold,
        } = pulled;
        match api::decode_job(payload) {
            Ok(job) => Some(InHand {
                job,
                hold,
                stage,
                redelivered,
                overflowed,
                _place: place,
            }),
            Err(error) => {
                tracing::error!(%error, "job is not readable, leaving it in the queue");
                if let Err(error) = hold.postpone(UNREADABLE_PAUSE).await {
                    tracing::debug!(%error, "unreadable job not postponed");
                }
                None
            }
        }
    }

    /// Settles a job that an earlier run had finished, or had already deferred, before it died.
    async fn recall(&self, held: InHand) -> Option<InHand> {
        let is_fresh = !held.redelivered && !held.overflowed && held.stage == Stage::Ready;
        if is_fresh && !self.may_predate_the_connection() {
            return Some(held);
        }
        let job = held.job.id;
        if let Some(event) = self.marker(job).await {
            tracing::info!(%job, "job was finished before, recording its outcome again");
            log_unsettled(self.settler.settle_again(held, event.to_vec()).await);
            return None;
        }
        if held.redelivered && self.has_later_schedule(&held.job).await {
            tracing::info!(%job, "job was deferred before, its schedule goes on");
            log_unsettled(held.hold.settle().await);
            return None;
        }
        Some(held)
    }

    /// Whether a job that comes as fresh may have been in somebody's hands: a nats-server that crashed forgets how often
    /// it delivered a job, and delivers what was in hand once more as if for the first time.
    fn may_predate_the_connection(&self) -> bool {
        self.connections.borrow().elapsed() < self.ack_wait * 4
    }

    /// The event that ended the job before, if one did. A Redis that is merely slow is asked again: without an answer
    /// the job is sent, and may be sent twice.
    async fn marker(&self, job: JobId) -> Option<Bytes> {
        for pause in MARKER_PAUSES {
            match self.history.done(job).await {
                Ok(marker) => return marker,
                Err(error) => tracing::debug!(%job, %error, "marker not read"),
            }
            tokio::time::sleep(pause).await;
        }
        self.history.done(job).await.unwrap_or_default()
    }

    /// Whether an earlier run of this job deferred or parked it before it died.
    async fn has_later_schedule(&self, job: &Job) -> bool {
        match self
            .publisher
            .pending_schedule(job.class, job.destination(), job.id)
            .await
        {
            Ok(Some(payload)) => {
                api::decode_job(payload).is_ok_and(|scheduled| scheduled.attempt >= job.attempt)
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(job = %job.id, %error, "schedule not looked up");
                false
            }
        }
    }

    /// Ends a job that was cancelled, whose time is over or whose content is not what was accepted.
    async fn screen(&self, held: InHand) -> Option<InHand> {
        let now = self.clock.now();
        if self.tombstones.contain(&held.job) {
            let cancelled = Judge::cancelled(&held.job, now);
            self.settler.settle(held, cancelled).await;
            return None;
        }
        if let Some(early) = early(&held.job, now) {
            // Made due by a cancellation that this worker has not heard of yet.
            self.settler.park(held, early).await;
            return None;
        }
        if now >= held.job.expires_at {
            let expired = Judge::expired(&held.job, now);
            self.settler.settle(held, expired).await;
            return None;
        }
        if let Body::Inline(body) = &held.job.body
            && Job::checksum_of(&held.job.recipient_header, body) != held.job.checksum
        {
            tracing::error!(job = %held.job.id, "job's checksum does not match, setting it aside");
            let quarantined = Judge::quarantined(
                &held.job,
                "the stored message does not match its checksum".into(),
                now,
            );
            self.settler.settle(held, quarantined).await;
            return None;
        }
        Some(held)
    }

    async fn unroutable(&self, held: InHand, error: &RouteError) {
        let verdict = Verdict {
            class: error.bounce_class(),
            permanence: error.permanence(),
        };
        let outcome = Outcome::Failed {
            verdict,
            detail: error.to_string(),
        };
        let nowhere = Provider::new(held.job.destination().as_str());
        let judgement = self
            .judge
            .judge(&held.job, &nowhere, outcome, None, self.clock.now());
        self.settler.settle(held, judgement).await;
    }
}

/// How long before its time a job has come; `None` where it has not. Schedules fire within the second.
fn early(job: &Job, now: Timestamp) -> Option<Duration> {
    let until = Duration::try_from(now.duration_until(job.send_at?)).ok()?;
    (until > Duration::from_secs(1)).then_some(until)
}

fn log_unsettled(settled: Result<(), QueueError>) {
    if let Err(error) = settled {
        tracing::warn!(%error, "job not settled, leaving it to redelivery");
    }
}
