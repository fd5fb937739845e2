//! How much of one stream a worker has in hand: bounded by jobs and by octets, whatever the backlog.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which octets are counted.
const KIB: usize = 1024;

/// The room for one stream's jobs; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    jobs: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    kib_limit: usize,
}

impl Window {
    /// Room for `jobs` jobs of `octets` octets together; for one job however large.
    pub(crate) fn new(jobs: usize, octets: u64) -> Self {
        let kib_limit = usize::try_from(octets).unwrap_or(usize::MAX) / KIB;
        let kib_limit = kib_limit.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            jobs: Arc::new(Semaphore::new(jobs.max(1))),
            kib: Arc::new(Semaphore::new(kib_limit)),
            kib_limit,
        }
    }

    /// As many free seats as there are, at least one and at most `most`; waits for the first, and for a free octet.
    pub(crate) async fn seats(&self, most: usize) -> Seats {
        drop(acquire(&self.kib, 1).await);
        let mut seats = acquire(&self.jobs, 1).await;
        let more = self.jobs.available_permits().min(most.saturating_sub(1));
        if let (Some(seats), Ok(more)) = (
            &mut seats,
            Arc::clone(&self.jobs).try_acquire_many_owned(permits(more)),
        ) {
            seats.merge(more);
        }
        Seats {
            seats,
            window: self.clone(),
        }
    }
}

/// Seats that no job has taken yet.
#[derive(Debug)]
pub(crate) struct Seats {
    seats: Option<OwnedSemaphorePermit>,
    window: Window,
}

impl Seats {
    pub(crate) fn count(&self) -> usize {
        self.seats
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// A seat and the room for a job of `octets`, waiting for the room.
    pub(crate) async fn take(&mut self, octets: usize) -> Option<Place> {
        let seat = self.seats.as_mut()?.split(1)?;
        let kib = octets.div_ceil(KIB).clamp(1, self.window.kib_limit);
        Some(Place {
            _seat: seat,
            _room: acquire(&self.window.kib, kib).await,
        })
    }
}

/// A job's place in the window, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _seat: OwnedSemaphorePermit,
    _room: Option<OwnedSemaphorePermit>,
}

/// `None` only if the semaphore were closed, which these never are.
async fn acquire(semaphore: &Arc<Semaphore>, count: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore)
        .acquire_many_owned(permits(count))
        .await
        .ok()
}

fn permits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_window_is_bounded_by_jobs() {
        let window = Window::new(3, 1 << 30);
        let mut seats = window.seats(250).await;
        assert_eq!(seats.count(), 3);
        let place = seats.take(10).await;
        drop(seats);
        assert_eq!(window.seats(250).await.count(), 2);
        drop(place);
        assert_eq!(window.seats(250).await.count(), 3);
    }

    #[tokio::test]
    async fn a_window_is_bounded_by_octets_and_takes_one_job_of_any_size() {
        let window = Window::new(100, 64 * 1024);
        let mut seats = window.seats(250).await;
        let large = seats.take(10 << 20).await;
        assert!(large.is_some());
        assert!(
            seats.take(1).now_or_never().is_none(),
            "no room beside the large one"
        );
        assert!(
            window.seats(250).now_or_never().is_none(),
            "nothing is pulled without room"
        );
        drop(large);
        assert!(seats.take(1).now_or_never().is_some());
    }
}
