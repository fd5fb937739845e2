//! Screens a pulled job, finds its route and hands it to its site.

use std::cmp::Ordering;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use history::History;
use model::{Clock, Job, JobId, Provider, Timestamp, Verdict};
use queue::{Bundle, Publisher, Pulled, QueueError, Stage, Tombstones};
use routing::{Route, RouteError, Routing};
use tokio::sync::watch;

use crate::copies::Copies;
use crate::judge::{Judge, Judgement, Outcome};
use crate::settle::{InHand, Settler};
use crate::sites::{Residence, Sites};
use crate::window::Place;

/// When a job that this build cannot read is looked at again, by a newer build one hopes.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// When a job is taken again of whose earlier run nothing could be known.
const LATER: Duration = Duration::from_secs(2);
/// How far the broker's clock may be ahead of ours.
const CLOCKS: Duration = Duration::from_secs(5);
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
    pub(crate) copies: Copies,
    pub(crate) tombstones: Tombstones,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the connection to the queue was made.
    pub(crate) connections: watch::Receiver<Timestamp>,
}

/// What is to be done with a pulled job.
enum Next {
    /// It is to be sent this way.
    Send(Arc<Route>, Residence),
    /// It comes to its end, or is tried later, without having been sent.
    Settle(Box<Judgement>),
    /// An earlier run of it had ended with this event.
    Ended(Bytes),
    /// An earlier run of it had been deferred: its schedule goes on.
    Forget,
    /// What became of an earlier run of it cannot be known now.
    Later,
    /// Its time has not come.
    Park(Duration),
}

impl Intake {
    /// Takes one job from the queue to its site, or settles it where nothing is left to send. A panic on the way is the
    /// job's fault, and sets it aside.
    pub(crate) async fn take(&self, pulled: Pulled, place: Place) {
        let Some(held) = self.read(pulled, place).await else {
            return;
        };
        let decided = AssertUnwindSafe(self.decide(&held)).catch_unwind().await;
        let next = decided.unwrap_or_else(|_| {
            tracing::error!(job = %held.job.id, "intake panicked, setting the job aside");
            let detail = "reading it failed in a way it never should".to_owned();
            self.quarantine(&held.job, detail)
        });
        let job = held.job.id;
        match next {
            Next::Send(route, residence) => self.sites.push(route, residence, held),
            Next::Settle(judgement) => self.settler.settle(held, *judgement).await,
            Next::Ended(event) => {
                tracing::info!(%job, "job was finished before, recording its outcome again");
                log_unsettled(self.settler.settle_again(held, event.to_vec()).await);
            }
            Next::Forget => {
                tracing::info!(%job, "job was deferred before, its schedule goes on");
                held.hold.settle();
            }
            Next::Later => held.postpone(LATER).await,
            Next::Park(delay) => self.settler.park(held, delay).await,
        }
    }

    /// Puts the jobs of a bundle back into the queue, each for itself. Where that fails they are tried again soon.
    pub(crate) async fn unpack(&self, bundle: Bundle, place: Place) {
        if let Err(error) = self.publisher.unpack(bundle).await {
            tracing::warn!(%error, "jobs that are due not put back yet, trying again");
        }
        drop(place);
    }

    async fn decide(&self, held: &InHand) -> Next {
        if let Some(next) = self.recall(held).await {
            return next;
        }
        if let Some(next) = self.screen(held) {
            return next;
        }
        match self.routing.resolve(held.job.destination()).await {
            Ok(route) => {
                let residence = self.residence(held, &route).await;
                Next::Send(route, residence)
            }
            Err(error) => self.unroutable(&held.job, &error),
        }
    }

    /// Whether the job is at home in the lane that it came from. The exchangers of a domain may turn out to be another
    /// provider's than that of the lane.
    async fn residence(&self, held: &InHand, route: &Route) -> Residence {
        let Some(owner) = &held.owner else {
            return Residence::Elsewhere;
        };
        match self.routing.resolve(owner).await {
            Ok(home) if home.provider() == route.provider() => Residence::Home,
            Ok(_) | Err(_) => Residence::Elsewhere,
        }
    }

    /// The job in these bytes. One that cannot be read stays in the queue, loudly; a second copy of one that is in hand stays
    /// there for a while.
    async fn read(&self, pulled: Pulled, place: Place) -> Option<InHand> {
        let Pulled {
            payload,
            redelivered,
            may_be_shared: may_have_been_given,
            stored_at,
            stage,
            overflowed,
            owner,
            hold,
        } = pulled;
        let job = match api::decode_job(payload) {
            Ok(job) => job,
            Err(error) => {
                tracing::error!(%error, "job is not readable, leaving it in the queue");
                hold.postpone(UNREADABLE_PAUSE).await;
                return None;
            }
        };
        let Some(copy) = self.copies.enter(job.id, hold.claim()) else {
            tracing::info!(job = %job.id, "another copy of the job is in hand, this one waits for its end");
            hold.postpone(LATER).await;
            return None;
        };
        Some(InHand {
            job,
            hold,
            copy,
            stage,
            redelivered,
            may_have_been_given,
            stored_at,
            overflowed,
            owner,
            place,
        })
    }

    /// What an earlier run of the job left behind before it died: its end, or a schedule.
    async fn recall(&self, held: &InHand) -> Option<Next> {
        let is_fresh = !held.redelivered && !held.overflowed && held.stage == Stage::Ready;
        if is_fresh && !self.may_come_again(held) {
            return None;
        }
        if let Some(event) = self.marker(held.job.id).await {
            return Some(Next::Ended(event));
        }
        if !held.redelivered && !self.may_come_again(held) {
            return None;
        }
        match self.has_later_schedule(held).await {
            Ok(true) => Some(Next::Forget),
            Ok(false) => None,
            Err(error) => {
                tracing::debug!(job = %held.job.id, %error, "schedule not looked up, job is tried later");
                Some(Next::Later)
            }
        }
    }

    /// Whether a job that comes as fresh may have been in somebody's hands: a nats-server that crashed forgets how often
    /// it delivered a job, and delivers what was in hand once more as if for the first time. Nobody has had what was stored
    /// after the connection was made, unless the queue is known to have come up since, or to have forgotten.
    fn may_come_again(&self, held: &InHand) -> bool {
        let connected = *self.connections.borrow();
        let by_then = connected.saturating_add(CLOCKS).unwrap_or(Timestamp::MAX);
        held.may_have_been_given || held.stored_at < by_then
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

    /// Whether an earlier run of this job deferred or parked it before it died. The schedule that the job has come of is not a
    /// later one, although it may still seem to stand: whoever forgot the job for it would lose it.
    async fn has_later_schedule(&self, held: &InHand) -> Result<bool, QueueError> {
        let job = &held.job;
        let pending = self
            .publisher
            .pending_schedule(job.class, job.destination(), job.id)
            .await?;
        let Some(pending) = pending else {
            return Ok(false);
        };
        let Ok(scheduled) = api::decode_job(pending.payload.clone()) else {
            return Ok(false);
        };
        Ok(match scheduled.attempt.cmp(&job.attempt) {
            Ordering::Less => false,
            // It was parked, or this is what the job has come of.
            Ordering::Equal => held.stage == Stage::Ready || held.hold.is_followed_by(&pending),
            Ordering::Greater => true,
        })
    }

    /// The end of a job that was cancelled or whose time is over.
    fn screen(&self, held: &InHand) -> Option<Next> {
        let (job, now) = (&held.job, self.clock.now());
        if self.tombstones.contain(job) {
            return Some(Next::Settle(Box::new(Judge::cancelled(job, now))));
        }
        if let Some(early) = early(job, now) {
            // Made due by a cancellation that this worker has not heard of yet.
            return Some(Next::Park(early));
        }
        if now >= job.expires_at {
            return Some(Next::Settle(Box::new(Judge::expired(job, now))));
        }
        None
    }

    fn unroutable(&self, job: &Job, error: &RouteError) -> Next {
        let verdict = Verdict {
            class: error.bounce_class(),
            permanence: error.permanence(),
        };
        let outcome = Outcome::Failed {
            verdict,
            detail: error.to_string(),
        };
        let nowhere = Provider::new(job.destination().as_str());
        let judgement = self
            .judge
            .judge(job, &nowhere, outcome, None, self.clock.now());
        Next::Settle(Box::new(judgement))
    }

    fn quarantine(&self, job: &Job, detail: String) -> Next {
        Next::Settle(Box::new(Judge::quarantined(job, detail, self.clock.now())))
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
