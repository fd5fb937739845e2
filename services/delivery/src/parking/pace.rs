//! How fast a site is, measured once a second, and whether that is too slow for what waits.

use std::time::Duration;

use tokio::time::Instant;

use crate::window::PATIENCE;

/// A site that sends less than this in a second is taken to send nothing.
const TRICKLE: f64 = 0.2;
/// How much of the measured pace a second without anything sent leaves.
const MEMORY_OF_PACE: f64 = 0.8;

/// A site whose queue will take so much longer than [`PATIENCE`] at its pace is slow already.
pub(super) const FORESEEN: u32 = 2;
/// What a pace is worth that was measured over two seconds: with less nothing is foreseen.
const TWO_SECONDS: f64 = 0.35;

/// How many jobs a site sends in a second, of late: a mean in which each second counts less than the one after it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    sum: f64,
    /// What the seconds in `sum` count together: 1 when there were many. The first seconds of a site are not mixed with
    /// seconds in which it did not exist.
    weight: f64,
    /// Jobs that were taken to be sent, by the last measurement, and when that was.
    pub(super) taken: u64,
    pub(super) measured_at: Option<Instant>,
}

impl Pace {
    /// Measures, with how many were ever taken.
    pub(super) fn measure(&mut self, taken: u64, now: Instant) {
        let sent = taken.saturating_sub(self.taken) as f64;
        self.taken = taken;
        let last = self.measured_at.replace(now);
        let elapsed = last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let is_silent = sent == 0.0 && self.weight == 0.0;
        if is_silent || elapsed.is_zero() {
            // Of a site that begins to send, or does so again, only what it sends from then on says how fast it is.
            return;
        }
        let left = MEMORY_OF_PACE.powf(elapsed.as_secs_f64());
        self.sum = self.sum * left + sent / elapsed.as_secs_f64() * (1.0 - left);
        self.weight = self.weight * left + (1.0 - left);
        if self.jobs_a_second() < TRICKLE {
            (self.sum, self.weight) = (0.0, 0.0);
        }
    }

    /// 0 where it sends nothing.
    pub(super) fn jobs_a_second(&self) -> f64 {
        if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        }
    }

    /// Whether the last of `waiting` jobs would wait for far too long, as far as can be foreseen.
    pub(super) fn is_too_slow_for(&self, waiting: usize) -> bool {
        let longest = (PATIENCE * FORESEEN).as_secs_f64();
        self.weight > TWO_SECONDS && waiting as f64 > self.jobs_a_second() * longest
    }
}
