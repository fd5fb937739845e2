//! Which jobs leave the window again because their site is too slow for them, and for how long.
//!
//! A window is small and shared: a site that does not keep up must not fill it, or every other site of its lane waits
//! too. So a site whose jobs wait longer than [`PATIENCE`] keeps a share, and the rest is parked: put back into the
//! queue as a schedule, without an attempt, for a time that doubles while the site stays slow. From then on what comes
//! above the share is parked at once: a backlog of the slow site's jobs passes through the window at the pace of the queue,
//! and what stands behind it has its turn within seconds.
//!
//! A site that sends nothing has its jobs back after a time that doubles, and no more of them in a second than cost little:
//! a million jobs that wait for a provider that has stopped must not keep the queue busy (ADR 20).
//!
//! A site that is slow and still sends (its provider has a limit, or is far away) must not run dry while its jobs are
//! parked. It keeps what it sends in the shortest time that a job can be parked, and the others come back at the pace at
//! which it sends, and a little faster.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use crate::window::PATIENCE;

/// How long a site that was found slow is taken to be so: what comes for it meanwhile is parked at once.
const MEMORY: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(15);
/// 15 s doubled seven times is 32 minutes.
const MOST_DOUBLINGS: u32 = 7;

/// A site that sends less than this in a second is taken to send nothing.
const TRICKLE: f64 = 0.2;
/// How much of the measured pace a second without anything sent leaves.
const MEMORY_OF_PACE: f64 = 0.8;
/// Parked jobs come back so much faster than the site sends, that it does not run dry.
const OVERBOOKED: f64 = 1.25;
/// The most parked jobs that come back in a second to a site that sends nothing.
const PROBES: f64 = 250.0;
/// The longest that a job is parked for others to come back before it.
const LONGEST: Duration = Duration::from_secs(64 * 60);

/// How slow a site is.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    /// Jobs a second, of late.
    pace: f64,
    /// Jobs that were taken to be sent, by the last measurement.
    taken: u64,
    /// When the next parked job is to come back.
    next_return: Option<Instant>,
    /// When the last of them is back.
    last_return: Option<Instant>,
    doublings: u32,
    last_doubled: Option<Instant>,
    slow_until: Option<Instant>,
}

impl Parking {
    /// For how long jobs have to be parked now; `None` where the site keeps up. `oldest` is since when the job that
    /// has waited longest has waited.
    pub(crate) fn needed(&mut self, oldest: Option<Instant>, now: Instant) -> Option<Duration> {
        let waited = oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if waited < PATIENCE {
            let known = self.known(now);
            if known.is_none() {
                self.doublings = self.doublings.min(self.still_slow(now));
            }
            return known;
        }
        let base = SHORTEST * 2u32.pow(self.doublings);
        self.slow_until = Some(now + base.min(MEMORY));
        if self
            .last_doubled
            .is_none_or(|last| now.saturating_duration_since(last) >= base)
        {
            self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
            self.last_doubled = Some(now);
        }
        Some(base)
    }

    /// For how long jobs have to be parked that come now; `None` where the site is not known to be slow.
    pub(crate) fn known(&self, now: Instant) -> Option<Duration> {
        let is_known = self.slow_until.is_some_and(|until| now < until);
        is_known.then(|| SHORTEST * 2u32.pow(self.doublings))
    }

    /// Measures the site's pace; to be called once a second with how many jobs were ever taken to be sent.
    pub(crate) fn measure(&mut self, taken: u64) {
        let sent = taken.saturating_sub(self.taken) as f64;
        self.taken = taken;
        self.pace = self.pace * MEMORY_OF_PACE + sent * (1.0 - MEMORY_OF_PACE);
    }

    /// How many jobs a slow site sends until the first of those that are parked now can be back, `soonest` from now.
    pub(crate) fn sends_until(&self, soonest: Duration) -> usize {
        (self.pace * OVERBOOKED * soonest.as_secs_f64()) as usize
    }

    /// For how long the next job is parked, at least `soonest`; around `base` or longer where the site sends nothing.
    pub(crate) fn time(&mut self, base: Duration, soonest: Duration, now: Instant) -> Duration {
        let (pace, least) = if self.pace < TRICKLE {
            (PROBES, spread(base))
        } else {
            (self.pace * OVERBOOKED, Duration::ZERO)
        };
        let turn = self.next_return.map_or(now, |next| next.max(now));
        let turn = turn.max(now + soonest);
        let time = if turn - now < LONGEST {
            self.next_return = Some(turn + Duration::from_secs_f64(1.0 / pace));
            least.max(turn - now)
        } else {
            self.next_return = Some(now + LONGEST);
            LONGEST.mul_f64(rand::rng().random_range(0.5..=1.0))
        };
        self.last_return = self.last_return.max(Some(now + time));
        time
    }

    /// Whether parked jobs are still to come back, which must find what is known of their site.
    pub(crate) fn expects_any(&self, now: Instant) -> bool {
        self.last_return.is_some_and(|last| now < last + PATIENCE)
    }

    /// A site that kept up for one parking time is forgiven.
    fn still_slow(&self, now: Instant) -> u32 {
        let base = SHORTEST * 2u32.pow(self.doublings);
        match self.last_doubled {
            Some(last) if now.saturating_duration_since(last) < base => self.doublings,
            Some(_) | None => 0,
        }
    }
}

/// A time around `base` for one job, so that what was parked together does not come back together.
fn spread(base: Duration) -> Duration {
    base.mul_f64(rand::rng().random_range(0.5..=1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_site_that_keeps_up_parks_nothing() {
        let mut parking = Parking::default();
        let now = Instant::now();
        assert_eq!(parking.needed(None, now), None);
        assert_eq!(
            parking.needed(Some(now), now + Duration::from_secs(4)),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_slow_site_parks_comes_back_at_its_pace() {
        let mut parking = Parking::default();
        for second in 1..=60 {
            parking.measure(second * 100);
        }
        let (base, soonest, now) = (SHORTEST, Duration::from_secs(60), Instant::now());
        assert!((7000..=7600).contains(&parking.sends_until(soonest)));
        let times: Vec<Duration> = (0..1250)
            .map(|_| parking.time(base, soonest, now))
            .collect();
        assert!(times.is_sorted() && times[0] == soonest, "{:?}", times[0]);
        let last = (times[1249] - soonest).as_secs_f64();
        assert!((9.5..10.5).contains(&last), "1,250 in {last} s");
        for _ in 0..60 {
            parking.measure(6000);
        }
        assert_eq!(parking.sends_until(soonest), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_site_that_sends_nothing_comes_back_a_few_a_second() {
        let mut parking = Parking::default();
        let (soonest, now) = (Duration::from_secs(60), Instant::now());
        let mut times: Vec<f64> = (0..500_000)
            .map(|_| parking.time(SHORTEST, soonest, now).as_secs_f64())
            .collect();
        times.sort_by(f64::total_cmp);
        let most = times
            .chunk_by(|a, b| a.floor() == b.floor())
            .map(<[f64]>::len);
        assert!(most.max() <= Some(PROBES as usize + 1));
        assert!(times[0] >= 60.0 && times[499_999] < 2100.0);
        assert!(parking.expects_any(now + Duration::from_secs(2000)));
        assert!(!parking.expects_any(now + Duration::from_secs(2100)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_jobs_of_a_site_that_sends_nothing_come_back_around_its_time() {
        let mut parking = Parking::default();
        let (base, now) = (SHORTEST * 32, Instant::now());
        for _ in 0..100 {
            let time = parking.time(base, Duration::from_secs(60), now);
            assert!(time >= base / 2 && time <= base * 3 / 2, "{time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_be_parked_for_too_long_is_spread() {
        let mut parking = Parking::default();
        parking.measure(10);
        let (soonest, now) = (Duration::from_secs(60), Instant::now());
        let longest = (0..100_000)
            .map(|_| parking.time(SHORTEST, soonest, now))
            .max();
        assert!(longest.unwrap() <= LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_site_parks_arrivals_until_it_is_forgiven() {
        let mut parking = Parking::default();
        let start = Instant::now();
        assert_eq!(parking.known(start), None);
        let slow = start + PATIENCE;
        assert_eq!(parking.needed(Some(start), slow), Some(SHORTEST));
        assert_eq!(parking.known(slow), Some(2 * SHORTEST));
        assert_eq!(parking.known(slow + 2 * SHORTEST), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_site_parks_for_longer_and_longer_and_is_forgiven() {
        let mut parking = Parking::default();
        let start = Instant::now();
        let mut at = start + Duration::from_secs(6);
        let mut times = Vec::new();
        for _ in 0..20 {
            let time = parking.needed(Some(start), at).unwrap();
            times.push(time.as_secs());
            at += time;
        }
        assert!(times.is_sorted(), "{times:?}");
        assert_eq!((times[0], times[1], times[19]), (15, 30, 1920));
        assert_eq!(
            parking.known(at - Duration::from_secs(1910)),
            Some(SHORTEST * 128)
        );
        at += Duration::from_secs(3600);
        assert_eq!(parking.known(at), None);
        assert_eq!(parking.needed(Some(at), at), None);
        assert_eq!(parking.needed(Some(at), at + PATIENCE), Some(SHORTEST));
    }
}
