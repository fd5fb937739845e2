//! Of several workers that were given the same job, because a nats-server died and forgot, or a repeated call stored it once more
//! in another lane, one sends it (ADR 10).
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
/// How long an answer may take that is not waited for: no longer than a limit may be late.
const AT_ONCE: Duration = Duration::from_millis(50);
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

/// Whether a Redis that does not answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Once,
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
        !self.remains().is_zero()
    }

    /// For how long it is relied on.
    fn remains(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
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

    /// Reserves the job where another worker may have it as well, or its twin, or says what is to be done with it instead. Without
    /// Redis both may send it.
    pub(crate) async fn make(&self, held: &InHand) -> Result<Option<Reserved>, Ended> {
        if !held.is_to_be_reserved() {
            return Ok(None);
        }
        let is_old = held.hold.may_be_shared();
        let asked = Instant::now();
        // A whole campaign comes through an overflow lane, and each of its jobs has its token by now: what waits here leaves in a burst.
        let patience = match held.may_be_shared() {
            true => Patience::Once,
            false => Patience::None,
        };
        let is_made = match self.ask(&held.job, patience).await {
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
        if !reserved.is_made {
            // Redis may have been late, and says no before the final dot.
            self.prolong(job, reserved).await;
        }
        loop {
            tokio::time::sleep(self.ttl / MARGIN).await;
            self.prolong(job, reserved).await;
        }
    }

    /// Prolongs a reservation that is not new any more: its job waited for the one before.
    pub(crate) async fn refresh(&self, job: &Job, reserved: Option<&Reserved>) {
        if let Some(reserved) = reserved
            && reserved.remains() < self.ttl / 2
        {
            self.prolong(job, reserved).await;
        }
    }

    async fn prolong(&self, job: &Job, reserved: &Reserved) {
        let asked = Instant::now();
        *reserved.until() = match self.history.reserve(job.id, self.ttl).await {
            // Another has it, or it has ended.
            Ok(false) => asked,
            Ok(true) | Err(_) => self.relied_on(asked),
        };
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

    /// Whether this worker has the job now; `None` where Redis does not answer.
    async fn ask(&self, job: &Job, patience: Patience) -> Option<bool> {
        match patience {
            Patience::None => {
                let reserving = self.history.reserve(job.id, self.ttl);
                tokio::time::timeout(AT_ONCE, reserving).await.ok()?.ok()
            }
            Patience::Once => self.ask_twice(job).await,
        }
    }

    /// The same, asking again where Redis may have been merely late.
    async fn ask_twice(&self, job: &Job) -> Option<bool> {
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
