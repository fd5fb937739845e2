//! Of several workers that were given the same job, because a nats-server died and forgot, one sends it (ADR 10).
//!
//! Each reserves it in Redis before it sends it. A job that nobody else can have costs nothing.

use std::time::Duration;

use history::History;
use model::Job;
use tokio::time::Instant;

use crate::attempt::Ended;
use crate::settle::InHand;

/// When a job that another worker has reserved is taken again, to see what has become of it.
const LATER: Duration = Duration::from_secs(2);
/// The pauses before Redis is asked again that did not answer.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(1000),
    Duration::from_millis(2500),
];
/// The share of its time that must be left when a reservation is relied on.
const MARGIN: u32 = 3;

/// Makes reservations; one for the whole worker.
#[derive(Debug)]
pub(crate) struct Reservations {
    history: History,
    /// How long one is good, and so how long a job waits whose worker dies before it has sent it.
    ttl: Duration,
}

/// A reservation that was made.
#[derive(Debug)]
pub(crate) struct Reserved {
    until: Instant,
}

impl Reserved {
    /// Whether it holds for a while yet.
    pub(crate) fn is_good(&self) -> bool {
        Instant::now() < self.until
    }
}

impl Reservations {
    pub(crate) fn new(history: History, ttl: Duration) -> Self {
        Self { history, ttl }
    }

    /// Reserves the job where another worker may have it as well, or says what is to be done with it instead. Without Redis
    /// both may send it.
    pub(crate) async fn make(&self, held: &InHand) -> Result<Option<Reserved>, Ended> {
        let is_old = held.hold.may_be_shared();
        if !is_old && !held.may_be_shared {
            return Ok(None);
        }
        let until = Instant::now() + self.ttl - self.ttl / MARGIN;
        match self.ask(&held.job).await {
            Some(false) if is_old => Err(Ended::Leave),
            Some(false) => Err(Ended::Postpone(LATER)),
            Some(true) | None => Ok(Some(Reserved { until })),
        }
    }

    /// Gives up a reservation of a job that was not sent.
    pub(crate) async fn release(&self, job: &Job, reserved: Option<Reserved>) {
        // One that is not good any more may be another's by now.
        if reserved.is_some_and(|reserved| reserved.is_good())
            && let Err(error) = self.history.release(job.id).await
        {
            tracing::debug!(job = %job.id, %error, "reservation not given up, it ends by itself");
        }
    }

    /// Whether this worker has the job now; `None` where Redis does not answer.
    async fn ask(&self, job: &Job) -> Option<bool> {
        for pause in PAUSES {
            match self.history.reserve(job.id, self.ttl).await {
                Ok(is_ours) => return Some(is_ours),
                Err(error) => tracing::debug!(job = %job.id, %error, "job not reserved"),
            }
            tokio::time::sleep(pause).await;
        }
        self.history.reserve(job.id, self.ttl).await.ok()
    }
}
