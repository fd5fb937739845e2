//! Jobs that may be why a worker died.
//!
//! A job that is redelivered was in the hands of a worker that died, was stopped, or lost the broker: mostly through no
//! fault of the job's. Only a note of intent tells: made before such a job is attempted, removed however the attempt ends,
//! and left standing by a process that ends in the middle. A job whose note stands is attempted while no other such job
//! is, so that the next death names one job alone; after [`DEATHS`] of them it is set aside. Jobs that come for the first
//! time cost nothing.

use std::sync::Arc;

use history::History;
use model::Job;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many workers died in the middle of an attempt before the job is set aside.
const DEATHS: u32 = 3;

/// Watches over attempts of jobs that came more than once; one for the whole worker.
#[derive(Debug)]
pub(crate) struct Suspects {
    history: History,
    ward: Arc<Semaphore>,
}

/// What is known of a job that is about to be attempted.
#[derive(Debug)]
pub(crate) enum Suspicion {
    /// Nothing speaks against it.
    None,
    /// A note of intent stands as long as this attempt goes on.
    Noted(Noted),
    /// It is to be attempted alone, and another such job is being attempted.
    NotNow,
    /// It has ended too many workers.
    Condemned,
}

/// An attempt with a note of intent.
#[derive(Debug)]
pub(crate) struct Noted {
    /// Held by a job that is attempted alone.
    _alone: Option<OwnedSemaphorePermit>,
}

impl Suspects {
    pub(crate) fn new(history: History) -> Self {
        Self {
            history,
            ward: Arc::new(Semaphore::new(1)),
        }
    }

    /// Notes that a redelivered job is about to be attempted. Without Redis no job is suspected.
    pub(crate) async fn begin(&self, job: &Job) -> Suspicion {
        let standing = match self.history.begin_attempt(job.id).await {
            Ok(standing) => standing,
            Err(error) => {
                tracing::debug!(job = %job.id, %error, "intent not noted");
                return Suspicion::None;
            }
        };
        if standing == 0 {
            return Suspicion::Noted(Noted { _alone: None });
        }
        if standing >= DEATHS {
            self.end(job).await;
            return Suspicion::Condemned;
        }
        match Arc::clone(&self.ward).try_acquire_owned() {
            Ok(permit) => Suspicion::Noted(Noted {
                _alone: Some(permit),
            }),
            Err(_) => {
                if let Err(error) = self.history.withdraw_attempt(job.id).await {
                    tracing::debug!(job = %job.id, %error, "intent not withdrawn");
                }
                Suspicion::NotNow
            }
        }
    }

    /// The attempt came to an end, and with it every suspicion.
    pub(crate) async fn end(&self, job: &Job) {
        if let Err(error) = self.history.end_attempt(job.id).await {
            tracing::debug!(job = %job.id, %error, "intent not removed");
        }
    }
}
