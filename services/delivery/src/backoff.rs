//! When a deferred job is tried again.

use std::time::Duration;

use model::Timestamp;
use rand::RngExt as _;

/// Pauses that grow with the attempts, each moved by up to 20 % at random: jobs that failed together must not come
/// back together, because a burst of due schedules stalls its stream for seconds.
#[derive(Debug, Clone)]
pub struct Backoff {
    delays: Vec<Duration>,
}

impl Backoff {
    /// The pauses before the second, third, ... attempt; at least one.
    pub(crate) fn new(delays: Vec<Duration>) -> Result<Self, &'static str> {
        if delays.is_empty() || delays.iter().any(Duration::is_zero) {
            return Err(
                "must be one or more durations longer than 0, such as [\"1min\", \"5min\"]",
            );
        }
        Ok(Self { delays })
    }

    /// When to try again after attempt number `attempt`, counted from 1, failed at `now`.
    pub(crate) fn next(&self, attempt: u32, now: Timestamp) -> Timestamp {
        let index = (attempt.max(1) as usize - 1).min(self.delays.len() - 1);
        let delay = self.delays[index].mul_f64(rand::rng().random_range(0.8..=1.2));
        now.checked_add(delay).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_spread_and_stay_at_the_last() {
        let backoff = Backoff::new([60, 600].map(Duration::from_secs).into()).unwrap();
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        for (attempt, range) in [(1, 48..=72), (2, 480..=720), (9, 480..=720)] {
            let pauses: Vec<i64> = (0..200)
                .map(|_| backoff.next(attempt, start).as_second() - start.as_second())
                .collect();
            assert!(
                pauses.iter().all(|pause| range.contains(pause)),
                "attempt {attempt}: {pauses:?}"
            );
            assert!(
                pauses.iter().max() > pauses.iter().min(),
                "attempt {attempt} has no jitter"
            );
        }
    }
}
