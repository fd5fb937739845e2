//! How much of one stream a worker has in hand: bounded by jobs and by octets, whatever the backlog.
//!
//! A job that stays for long (its exchanger does not answer, its provider is at its limit) must not stand in the way of
//! those behind it in the stream. So after [`PATIENCE`] it moves to a room that all streams share, as long as there is
//! any, and its place is free for the next. One that has to wait behind many of its site moves there at once.
//!
//! A resident moves nowhere while its [`Home`] is open: those behind it in the stream go the same way, so it is in nobody
//! else's (ADR 26). Its stream is not pulled while its window is full of residents.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The unit in which octets are counted.
const KIB: usize = 1024;

/// How long a job stands in its stream's window.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The room for one stream's jobs, or for the slow ones of all; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    jobs: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    kib_limit: usize,
    taken: Arc<Mutex<Taken>>,
}

/// The places that were taken and since when, the oldest first.
type Taken = VecDeque<(Instant, Weak<Mutex<Spot>>)>;

impl Window {
    /// Room for `jobs` jobs of `octets` octets together; for one job however large.
    pub(crate) fn new(jobs: usize, octets: u64) -> Self {
        let kib_limit = usize::try_from(octets).unwrap_or(usize::MAX) / KIB;
        let kib_limit = kib_limit.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            jobs: Arc::new(Semaphore::new(jobs.max(1))),
            kib: Arc::new(Semaphore::new(kib_limit)),
            kib_limit,
            taken: Arc::default(),
        }
    }

    /// Moves what has stood here for long to `slow`, and what is to move there; the oldest first and as far as there is room.
    pub(crate) fn relieve(&self, slow: &Self) {
        let now = Instant::now();
        lock(&self.taken).retain(|(since, place)| {
            place.upgrade().is_some_and(|spot| {
                let is_new = now.saturating_duration_since(*since) < PATIENCE;
                let stays = is_new && !lock(&spot).is_to_move;
                stays || !move_to(slow, &spot)
            })
        });
    }

    /// Whether there is more room left than for `jobs` jobs of `octets` octets together.
    pub(crate) fn has_more_than(&self, jobs: usize, octets: u64) -> bool {
        let kib = usize::try_from(octets).unwrap_or(usize::MAX) / KIB;
        self.jobs.available_permits() > jobs && self.kib.available_permits() > kib
    }

    fn try_spot(&self, kib: usize) -> Option<Spot> {
        let try_acquire = |semaphore: &Arc<Semaphore>, count| {
            Arc::clone(semaphore)
                .try_acquire_many_owned(permits(count))
                .ok()
        };
        let seat = try_acquire(&self.jobs, 1)?;
        let room = try_acquire(&self.kib, kib.min(self.kib_limit))?;
        Some(Spot {
            kib,
            is_to_move: false,
            has_moved: true,
            home: None,
            _seat: seat,
            _room: Some(room),
        })
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
        let room = acquire(&self.window.kib, kib).await;
        let spot = Arc::new(Mutex::new(Spot {
            kib,
            is_to_move: false,
            has_moved: false,
            home: None,
            _seat: seat,
            _room: room,
        }));
        let taken = (Instant::now(), Arc::downgrade(&spot));
        lock(&self.window.taken).push_back(taken);
        let octets = (kib * KIB) as u64;
        Some(Place {
            octets,
            spot,
            is_resident: false,
        })
    }
}

/// A job's place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    octets: u64,
    spot: Arc<Mutex<Spot>>,
    is_resident: bool,
}

impl Place {
    /// The room it takes.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// Moves to `slow`, if there is room.
    pub(crate) fn try_move_to(&self, slow: &Window) {
        move_to(slow, &self.spot);
    }

    /// Moves to `slow`, or when its window is relieved and there is room.
    pub(crate) fn move_to(&self, slow: &Window) {
        lock(&self.spot).is_to_move = true;
        move_to(slow, &self.spot);
    }

    /// Stays where it is from now on, while `home` is open. One that has moved by now has no home.
    pub(crate) fn reside(&mut self, home: &Home) {
        let mut spot = lock(&self.spot);
        if !spot.has_moved {
            spot.home = Some(home.clone());
            self.is_resident = true;
        }
    }

    /// Whether it was ever told to stay.
    pub(crate) fn is_resident(&self) -> bool {
        self.is_resident
    }
}

/// Says whether residents keep their places; shared by a site with those that reside there.
#[derive(Debug, Clone)]
pub(crate) struct Home(Arc<AtomicBool>);

impl Default for Home {
    /// An open one.
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Home {
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Moves what stands at `spot` to `slow`, unless it stays; whether it stands there now.
fn move_to(slow: &Window, spot: &Mutex<Spot>) -> bool {
    let mut spot = lock(spot);
    let stays = spot.home.as_ref().is_some_and(Home::is_open);
    if !spot.has_moved
        && !stays
        && let Some(elsewhere) = slow.try_spot(spot.kib)
    {
        *spot = elsewhere;
    }
    spot.has_moved
}

/// Where a place is at the moment.
#[derive(Debug)]
struct Spot {
    kib: usize,
    /// Whether it is to be left as soon as there is room elsewhere.
    is_to_move: bool,
    /// Whether that is the room for what stays.
    has_moved: bool,
    /// Where it resides.
    home: Option<Home>,
    _seat: OwnedSemaphorePermit,
    _room: Option<OwnedSemaphorePermit>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn what_stays_for_long_makes_room_for_others_while_there_is_room_for_it() {
        let (window, slow) = (Window::new(3, 1 << 30), Window::new(2, 1 << 30));
        let mut seats = window.seats(250).await;
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(seats.take(10).await);
        }
        drop(seats);
        window.relieve(&slow);
        assert!(window.seats(1).now_or_never().is_none(), "not for long yet");
        tokio::time::advance(PATIENCE).await;
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 2, "two of three moved");
        drop(places);
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 3);
        assert_eq!(slow.seats(250).await.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_at_once_moves_once() {
        let (window, slow) = (Window::new(3, 1 << 30), Window::new(2, 1 << 30));
        let place = window.seats(1).await.take(10).await.unwrap();
        place.move_to(&slow);
        tokio::time::advance(PATIENCE).await;
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 3);
        assert_eq!(slow.seats(250).await.count(), 1);
        drop(place);
        assert_eq!(slow.seats(250).await.count(), 2);
    }

    #[tokio::test]
    async fn what_is_to_move_moves_as_soon_as_there_is_room() {
        let (window, slow) = (Window::new(3, 1 << 30), Window::new(1, 1 << 30));
        let mut seats = window.seats(250).await;
        let (first, second) = (seats.take(10).await.unwrap(), seats.take(10).await.unwrap());
        let third = seats.take(10).await.unwrap();
        drop(seats);
        first.move_to(&slow);
        second.try_move_to(&slow);
        third.move_to(&slow);
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 1);
        drop(first);
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 2, "the third has moved");
        drop(third);
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 2, "the second is new");
        drop(second);
        assert_eq!(slow.seats(250).await.count(), 1);
    }

    #[tokio::test]
    async fn room_is_seats_and_octets() {
        let window = Window::new(2, 4096);
        assert!(window.has_more_than(1, 3072));
        let place = window.seats(1).await.take(2000).await;
        assert!(window.has_more_than(0, 1024));
        assert!(!window.has_more_than(1, 0));
        assert!(!window.has_more_than(0, 2048));
        drop(place);
        assert!(!window.has_more_than(2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resident_keeps_its_place_until_its_home_is_closed() {
        let (window, slow) = (Window::new(2, 1 << 30), Window::new(3, 1 << 30));
        let home = Home::default();
        let mut resident = window.seats(1).await.take(10).await.unwrap();
        let guest = window.seats(1).await.take(10).await.unwrap();
        resident.reside(&home);
        resident.move_to(&slow);
        tokio::time::advance(PATIENCE).await;
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 1, "the guest has moved");
        assert_eq!(slow.seats(250).await.count(), 2);
        home.close();
        window.relieve(&slow);
        assert_eq!(window.seats(250).await.count(), 2, "both have");
        assert_eq!(slow.seats(250).await.count(), 1);
        drop((resident, guest));
        assert_eq!(slow.seats(250).await.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_moved_resides_nowhere() {
        let (window, slow) = (Window::new(1, 1 << 30), Window::new(1, 1 << 30));
        let mut place = window.seats(1).await.take(10).await.unwrap();
        place.move_to(&slow);
        place.reside(&Home::default());
        assert!(!place.is_resident());
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
