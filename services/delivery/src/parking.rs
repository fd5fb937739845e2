//! Which jobs leave the window again because their site is too slow for them, and for how long.
//!
//! A window is small and shared: a site that does not keep up must not fill it, or every other site of its lane waits
//! too. So a site whose jobs wait longer than [`PATIENCE`], or are certain to, keeps a share, and the rest is parked: put
//! back into the queue as a schedule, without an attempt, for a time that doubles while the site stays slow. From then on
//! what comes above the share is parked at once: a backlog of the slow site's jobs passes through the window at the pace of
//! the queue, and what stands behind it has its turn within seconds.
//!
//! A site that sends nothing has its jobs back after a time that doubles, and no more of them in a second than cost little:
//! a million jobs that wait for a provider that has stopped must not keep the queue busy (ADR 20).
//!
//! A site that is slow and still sends (its provider has a limit, or is far away) must not run dry while its jobs are
//! parked. It keeps what it sends until others can be back, and these come back at the pace at which it sends, and a little
//! faster; once they do, it keeps a few of them (ADR 29). That pace is known from the first seconds on, and where it turns out
//! otherwise what is parked from then on has its turn by the better knowledge. What makes a site slow may pass within seconds,
//! as when a worker dies that held its connections; so at first many come back in a second, whatever the pace, and half as
//! many each time that the time of the slow site doubles.

mod pace;

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use crate::window::PATIENCE;

use self::pace::{FORESEEN, Pace};

/// How long a site that was found slow is taken to be so: what comes for it meanwhile is parked at once.
const MEMORY: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(15);
/// 15 s doubled seven times is 32 minutes.
const MOST_DOUBLINGS: u32 = 7;

/// Parked jobs come back so much faster than the site sends, that it does not run dry.
const OVERBOOKED: f64 = 1.25;
/// The most parked jobs that come back in a second to a site that sends nothing, or that has been slow for a short time only.
const PROBES: f64 = 125.0;
/// The longest that a job is parked for others to come back before it.
const LONGEST: Duration = Duration::from_secs(135 * 60);

/// How slow a site is.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    pace: Pace,
    /// When the next parked job is to come back.
    next_return: Option<Instant>,
    /// Since when parked jobs come back without a break, or will.
    return_from: Option<Instant>,
    /// How many were parked since it was last asked how slow the site is.
    parked: usize,
    /// The soonest a job could come back, when the last one was parked.
    soonest: Duration,
    /// When the last of them is back.
    last_return: Option<Instant>,
    doublings: u32,
    last_doubled: Option<Instant>,
    slow_until: Option<Instant>,
}

impl Parking {
    /// For how long jobs have to be parked now; `None` where the site keeps up. `oldest` is since when the job that
    /// has waited longest has waited, of `waiting`.
    pub(crate) fn needed(
        &mut self,
        oldest: Option<Instant>,
        waiting: usize,
        now: Instant,
    ) -> Option<Duration> {
        let waited = oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let known = self.known(now);
        // What was parked waits here no longer, and what is kept instead has just come.
        let parked = std::mem::take(&mut self.parked);
        let is_silent = known.is_some() && parked > 0 && !self.sends();
        if waited < PATIENCE && !self.pace.is_too_slow_for(waiting + parked) && !is_silent {
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
    ///
    /// What was parked by another pace comes back as it was told to. Those that are parked from now on stand behind as many as
    /// before, at the pace of now.
    pub(crate) fn measure(&mut self, taken: u64, now: Instant) {
        let before = self.returns();
        self.pace.measure(taken, now);
        let after = self.returns();
        let first = now + self.soonest;
        if let Some(next) = self.next_return
            && next > first
        {
            let longer = match before {
                Returns::AtPace(before) => before / after.in_a_second(),
                // That a site has begun to send is no reason to have less of its jobs back.
                Returns::Probing => (PROBES / after.in_a_second()).min(1.0),
            };
            self.next_return = Some(first + (next - first).mul_f64(longer).min(LONGEST));
        }
    }

    /// Whether the site sends anything, of late.
    pub(crate) fn sends(&self) -> bool {
        self.pace.jobs_a_second() > 0.0
    }

    /// How many jobs a slow site sends until others are back: `soonest` from now where none are on their way yet. They come
    /// in bundles.
    pub(crate) fn sends_until_others_return(&self, soonest: Duration, now: Instant) -> usize {
        let until = match (self.return_from, self.next_return) {
            (Some(from), Some(next)) if next > now + PATIENCE => {
                from.saturating_duration_since(now)
            }
            _ => soonest,
        };
        let until = until.max(PATIENCE * FORESEEN);
        (self.pace.jobs_a_second() * OVERBOOKED * until.as_secs_f64()) as usize
    }

    /// For how long the next job is parked, at least `soonest`; around `base` or longer where the site sends nothing.
    pub(crate) fn time(&mut self, base: Duration, soonest: Duration, now: Instant) -> Duration {
        self.soonest = soonest;
        self.parked += 1;
        let returns = self.returns();
        let least = match returns {
            Returns::Probing => spread(base),
            Returns::AtPace(_) => Duration::ZERO,
        };
        let soonest = now + soonest;
        let is_first = self
            .next_return
            .is_none_or(|next| next + PATIENCE < soonest);
        let turn = self.next_return.map_or(soonest, |next| next.max(soonest));
        let time = if turn - now < LONGEST {
            let gap = Duration::from_secs_f64(1.0 / returns.in_a_second());
            self.next_return = Some(turn + gap);
            least.max(turn - now)
        } else {
            self.next_return = Some(now + LONGEST);
            LONGEST.mul_f64(rand::rng().random_range(0.5..=1.0))
        };
        if is_first {
            self.return_from = Some(now + time);
        }
        self.last_return = self.last_return.max(Some(now + time));
        time
    }

    /// Whether parked jobs are still to come back, which must find what is known of their site.
    pub(crate) fn expects_any(&self, now: Instant) -> bool {
        self.last_return.is_some_and(|last| now < last + PATIENCE)
    }

    /// How parked jobs come back, as far as is known now.
    fn returns(&self) -> Returns {
        match self.pace.jobs_a_second() {
            0.0 => Returns::Probing,
            pace => {
                let fewest = PROBES / f64::from(2u32.pow(self.doublings));
                Returns::AtPace((pace * OVERBOOKED).max(fewest))
            }
        }
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

/// How parked jobs come back.
#[derive(Debug, Clone, Copy)]
enum Returns {
    /// So many a second, to a site that sends.
    AtPace(f64),
    /// As few as cost little.
    Probing,
}

impl Returns {
    fn in_a_second(self) -> f64 {
        match self {
            Self::AtPace(pace) => pace,
            Self::Probing => PROBES,
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
        assert_eq!(parking.needed(None, 0, now), None);
        assert_eq!(
            parking.needed(Some(now), 1, now + Duration::from_secs(4)),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_will_take_too_long_is_noticed_before_its_jobs_are_old() {
        let now = Instant::now();
        let needed = |parking: &mut Parking, waiting| parking.needed(Some(now), waiting, now);
        assert_eq!(needed(&mut sending(50, 2), 501), Some(SHORTEST));
        assert_eq!(needed(&mut sending(50, 2), 500), None);
        assert_eq!(needed(&mut sending(50, 1), 2000), None, "too early to say");
        assert_eq!(needed(&mut sending(0, 4), 2000), None, "nothing to go by");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_slow_site_parks_comes_back_at_its_pace() {
        let mut parking = sending(100, 60);
        let (base, soonest, now) = (SHORTEST, Duration::from_secs(60), Instant::now());
        assert!((7000..=7600).contains(&parking.sends_until_others_return(soonest, now)));
        let times: Vec<Duration> = (0..1250)
            .map(|_| parking.time(base, soonest, now))
            .collect();
        assert!(times.is_sorted() && times[0] == soonest, "{:?}", times[0]);
        let last = (times[1249] - soonest).as_secs_f64();
        assert!((9.5..10.5).contains(&last), "1,250 in {last} s");
        measure(&mut parking, 0, 60);
        assert_eq!(parking.sends_until_others_return(soonest, now), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_of_the_first_seconds_is_what_was_sent_in_them() {
        for seconds in [1, 2, 5] {
            let sends = sends_until_others_return(&sending(100, seconds), 0);
            assert!((7400..=7600).contains(&sends), "{sends} after {seconds} s");
        }
        let mut late = sending(0, 20);
        measure(&mut late, 100, 1);
        assert_eq!(sends_until_others_return(&late, 0), 7500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_site_keeps_what_it_sends_until_others_are_back() {
        let mut parking = sending(100, 60);
        let keeps = |parking: &Parking, seconds| {
            let keeps = sends_until_others_return(parking, seconds) as f64 / 125.0;
            keeps.round()
        };
        assert_eq!(keeps(&parking, 0), 60.0, "nothing is on its way");
        for seconds in 0..30 {
            park(&mut parking, 1000, seconds);
        }
        assert_eq!(keeps(&parking, 20), 40.0);
        assert_eq!(keeps(&parking, 70), 10.0, "they come in bundles");
        assert_eq!(keeps(&parking, 294), 10.0);
        assert_eq!(keeps(&parking, 296), 60.0, "the last are back in 4 s");
        park(&mut parking, 1, 290);
        assert_eq!(
            keeps(&parking, 290),
            60.0,
            "the next come 50 s behind the last"
        );
        park(&mut parking, 1, 291);
        assert_eq!(keeps(&parking, 300), 50.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_that_still_parks_is_still_slow() {
        let (mut parking, start) = (Parking::default(), Instant::now());
        let soonest = Duration::from_secs(60);
        let mut at = start + PATIENCE;
        let base = parking.needed(Some(start), 300, at);
        assert_eq!(base, Some(SHORTEST));
        // What it keeps has always just come.
        for _ in 0..100 {
            parking.time(SHORTEST, soonest, at);
            at += Duration::from_secs(1);
            assert!(parking.needed(Some(at), 250, at).is_some());
        }
        at += MEMORY;
        assert_eq!(parking.needed(Some(at), 250, at), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_site_that_parks_a_few_is_forgiven() {
        let mut parking = sending(100, 60);
        let mut at = measured_at(&parking);
        assert!(parking.needed(Some(at - PATIENCE), 250, at).is_some());
        let end = at + SHORTEST * 2;
        while at < end {
            park(&mut parking, 60, 0);
            at += Duration::from_secs(1);
            parking.needed(Some(at), 250, at);
        }
        assert_eq!(parking.known(at), None);
    }

    fn sends_until_others_return(parking: &Parking, seconds: u64) -> usize {
        let now = measured_at(parking) + Duration::from_secs(seconds);
        parking.sends_until_others_return(Duration::from_secs(60), now)
    }

    /// Parks some `seconds` after its pace was measured.
    fn park(parking: &mut Parking, count: usize, seconds: u64) {
        let now = measured_at(parking) + Duration::from_secs(seconds);
        for _ in 0..count {
            parking.time(SHORTEST, Duration::from_secs(60), now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_measured_later_has_jobs_back_earlier() {
        let mut parking = long_slow(sending(4, 2));
        let soonest = Duration::from_secs(60);
        let time = |parking: &mut Parking| {
            let now = measured_at(parking);
            parking.time(SHORTEST, soonest, now)
        };
        let far = (0..1000).map(|_| time(&mut parking)).max();
        assert!(far > Some(Duration::from_secs(240)), "{far:?}");
        measure(&mut parking, 100, 30);
        let near = time(&mut parking);
        assert!(near < soonest + Duration::from_secs(10), "{near:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_that_is_slow_for_a_moment_has_its_jobs_back_soon() {
        let mut parking = sending(1, 3);
        let (soonest, now) = (SHORTEST, measured_at(&parking));
        let longest = |parking: &mut Parking| {
            let base = parking.needed(Some(now - PATIENCE), 900, now).unwrap();
            let times = (0..900).map(|_| parking.time(base, soonest, now));
            times.max().unwrap()
        };
        let first = longest(&mut parking);
        assert!(first < soonest + Duration::from_secs(16), "{first:?}");
        let then = longest(&mut long_slow(sending(1, 3)));
        assert!(then > Duration::from_secs(600), "{then:?}");
    }

    /// One that has been slow for an hour.
    fn long_slow(parking: Parking) -> Parking {
        Parking {
            doublings: MOST_DOUBLINGS,
            ..parking
        }
    }

    /// A site that has sent `pace` jobs in each of its first seconds.
    fn sending(pace: usize, seconds: usize) -> Parking {
        let mut parking = Parking::default();
        parking.measure(0, Instant::now() - Duration::from_secs(seconds as u64));
        measure(&mut parking, pace, seconds);
        parking
    }

    /// The same in the next ones.
    fn measure(parking: &mut Parking, pace: usize, seconds: usize) {
        for _ in 0..seconds {
            let second_later = measured_at(parking) + Duration::from_secs(1);
            parking.measure(parking.pace.taken + pace as u64, second_later);
        }
    }

    fn measured_at(parking: &Parking) -> Instant {
        parking.pace.measured_at.unwrap_or_else(Instant::now)
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
        assert!(times[0] >= 60.0 && times[499_999] < 4100.0);
        assert!(parking.expects_any(now + Duration::from_secs(4000)));
        assert!(!parking.expects_any(now + Duration::from_secs(4100)));
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
        let mut parking = long_slow(sending(2, 1));
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
        assert_eq!(parking.needed(Some(start), 1, slow), Some(SHORTEST));
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
            let time = parking.needed(Some(start), 1, at).unwrap();
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
        assert_eq!(parking.needed(Some(at), 1, at), None);
        assert_eq!(parking.needed(Some(at), 1, at + PATIENCE), Some(SHORTEST));
    }
}
