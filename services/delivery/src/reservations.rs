//! Of several workers that were given the same job, because a nats-server died and forgot, one sends it (ADR 10).
//!
//! Each reserves it in Redis before it sends it. A job that nobody else can have costs nothing.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use history::History;
use model::Job;
use tokio::time::Instant;

use crate::attempt::Ended;
use crate::settle::InHand;

/// When a job that another worker has reserved is taken again, to see what has become of it.
const LATER: Duration = Duration::from_secs(2);
/// When Redis is asked again that did not answer: once it may have been merely late.
const PAUSE: Duration = Duration::from_millis(1200);
/// The share of its time that must be left when a reservation is relied on.
const MARGIN: u32 = 3;

/// Makes reservations; one for the whole worker.
#[derive(Debug)]
pub(crate) struct Reservations {
    history: History,
    /// How long one is good, and so how long a job waits whose worker dies before it has sent it.
    ttl: Duration,
    /// Whether Redis did not answer for long when it was asked last.
    is_away: AtomicBool,
}

/// A reservation.
#[derive(Debug)]
pub(crate) struct Reserved {
    until: Mutex<Instant>,
    /// Without Redis it is assumed.
    is_made: bool,
}

impl Reserved {
    /// Whether it holds for a while yet.
    pub(crate) fn is_good(&self) -> bool {
        Instant::now() < *self.until()
    }

    fn until(&self) -> MutexGuard<'_, Instant> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservations {
    pub(crate) fn new(history: History, ttl: Duration) -> Self {
        Self {
            history,
            ttl,
            is_away: AtomicBool::default(),
        }
    }

    /// Reserves the job where another worker may have it as well, or says what is to be done with it instead. Without Redis
    /// both may send it.
    pub(crate) async fn make(&self, held: &InHand) -> Result<Option<Reserved>, Ended> {
        if !held.may_be_shared() {
            return Ok(None);
        }
        let is_old = held.hold.may_be_shared();
        let asked = Instant::now();
        let is_made = match self.ask(&held.job).await {
            Some(false) if is_old => return Err(Ended::Leave),
            Some(false) => return Err(Ended::Postpone(LATER)),
            Some(true) => true,
            None => false,
        };
        let until = Mutex::new(self.relied_on(asked));
        Ok(Some(Reserved { until, is_made }))
    }

    /// Prolongs a reservation for as long as this is polled: until its job is sent and answered for.
    pub(crate) async fn keep(&self, job: &Job, reserved: Option<&Reserved>) -> Infallible {
        let Some(reserved) = reserved else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(self.ttl / MARGIN).await;
            let asked = Instant::now();
            let reserving = self.history.reserve(job.id, self.ttl).await;
            if reserving.unwrap_or(true) {
                *reserved.until() = self.relied_on(asked);
            }
        }
    }

    /// Gives up a reservation of a job that was not sent.
    pub(crate) async fn release(&self, job: &Job, reserved: Option<Reserved>) {
        // One that is not good any more may be another's by now.
        if reserved.is_some_and(|reserved| reserved.is_made && reserved.is_good())
            && let Err(error) = self.history.release(job.id).await
        {
            tracing::debug!(job = %job.id, %error, "reservation not given up, it ends by itself");
        }
    }

    /// Until when one counts that was asked for at `asked`.
    fn relied_on(&self, asked: Instant) -> Instant {
        asked + self.ttl - self.ttl / MARGIN
    }

    /// Whether this worker has the job now; `None` where Redis does not answer. That is waited for once.
    async fn ask(&self, job: &Job) -> Option<bool> {
        let mut answer = self.history.reserve(job.id, self.ttl).await;
        if let Err(error) = &answer
            && !self.is_away.load(Ordering::Relaxed)
        {
            tracing::debug!(job = %job.id, %error, "job not reserved, asking again");
            tokio::time::sleep(PAUSE).await;
            answer = self.history.reserve(job.id, self.ttl).await;
        }
        self.is_away.store(answer.is_err(), Ordering::Relaxed);
        answer.ok()
    }
}
