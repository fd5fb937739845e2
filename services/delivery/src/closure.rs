//! When a site to which no connection could be made is tried again.
//!
//! With a backlog behind it, a site that refuses at once would otherwise be dialled for every job that comes. What comes
//! meanwhile waits for the next try, and is parked where that is too much (ADR 11).

use std::time::Duration;

use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_secs(1);
/// 1 s doubled twice is 4 s: less than a job waits before it is parked, so that a site that is back has what waits for it
/// at once. One connection in four seconds costs neither side anything.
const MOST_DOUBLINGS: u32 = 2;

/// Whether a site is closed, and until when.
#[derive(Debug, Default)]
pub(crate) struct Closure {
    /// Tries that failed since the last that did not.
    failures: u32,
    until: Option<Instant>,
}

impl Closure {
    /// No connection could be made.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.until = Some(now + self.pause());
        self.failures = self.failures.saturating_add(1);
    }

    /// How long nobody tries after the next failure.
    fn pause(&self) -> Duration {
        SHORTEST * 2u32.pow(self.failures.min(MOST_DOUBLINGS))
    }

    /// A connection was made.
    pub(crate) fn opened(&mut self) {
        *self = Self::default();
    }

    /// Whether no connection is to be tried at `now`.
    pub(crate) fn is_closed(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether a failure would still count on from the last. Jobs that come back only after the site may be tried again must
    /// not find it forgotten, or it is never left alone for long.
    pub(crate) fn is_remembered(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until + self.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_site_is_tried_after_a_second_and_then_less_and_less_often() {
        let (mut closure, mut now) = (Closure::default(), Instant::now());
        assert!(!closure.is_closed(now));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            closure.failed(now);
            let began = now;
            while closure.is_closed(now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - began).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 4, 4, 4, 4, 4]);
        closure.opened();
        assert!(!closure.is_remembered(now));
        closure.failed(now);
        assert!(!closure.is_closed(now + SHORTEST));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_tried_again_only_after_the_pause_counts_on() {
        let (mut closure, now) = (Closure::default(), Instant::now());
        closure.failed(now);
        let open = now + SHORTEST;
        assert!(!closure.is_closed(open) && closure.is_remembered(open));
        assert!(closure.is_remembered(open + SHORTEST));
        assert!(!closure.is_remembered(open + 2 * SHORTEST));
    }
}
