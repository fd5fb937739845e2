//! Of several copies of one job only one is worked on at a time.
//!
//! A job may stand in the queue twice: as what was redelivered, and as its schedule that has come due, after an outage in
//! which its deferral was stored and its acknowledgement lost. Either finds the marker of the other once that has ended; but
//! both may be in hand before either has. A lane's streams are pulled by one worker, so that it mostly has both, and this table
//! is enough; between workers that are just handing a lane over it does not help.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::JobId;
use queue::Claim;

/// The jobs that a worker has in hand; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copies(Arc<Mutex<HashMap<JobId, Arc<Standing>>>>);

/// How things are with a copy that is in hand.
#[derive(Debug)]
struct Standing {
    claim: Claim,
    /// Whether it was about to be sent. Past its final dot it may arrive, whatever becomes of the hold.
    is_sending: AtomicBool,
}

impl Standing {
    /// Whether this copy may come to an end. One that was lost while it waited cannot, and must not stand in the way.
    fn is_live(&self) -> bool {
        self.is_sending.load(Ordering::Relaxed) || self.claim.is_proven()
    }
}

/// The one copy of a job that may be worked on, until this is dropped.
#[derive(Debug)]
pub(crate) struct OnlyCopy {
    job: JobId,
    standing: Arc<Standing>,
    copies: Copies,
}

impl Copies {
    /// Counts a copy of `job` in, unless another one is in hand.
    pub(crate) fn enter(&self, job: JobId, claim: Claim) -> Option<OnlyCopy> {
        let standing = Arc::new(Standing {
            claim,
            is_sending: AtomicBool::new(false),
        });
        match self.lock().entry(job) {
            Entry::Occupied(other) if other.get().is_live() => return None,
            Entry::Occupied(mut other) => drop(other.insert(Arc::clone(&standing))),
            Entry::Vacant(free) => drop(free.insert(Arc::clone(&standing))),
        }
        Some(OnlyCopy {
            job,
            standing,
            copies: self.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Arc<Standing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnlyCopy {
    /// It is about to be sent: whatever comes of that, this copy tells.
    pub(crate) fn mark_sending(&self) {
        self.standing.is_sending.store(true, Ordering::Relaxed);
    }
}

impl Drop for OnlyCopy {
    fn drop(&mut self) {
        let mut copies = self.copies.lock();
        if let Entry::Occupied(standing) = copies.entry(self.job)
            && Arc::ptr_eq(standing.get(), &self.standing)
        {
            standing.remove();
        }
    }
}
