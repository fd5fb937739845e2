//! A token bucket in this process, for when Redis is away: the arithmetic of `admit.lua` over tokio's clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::lease::Terms;

/// A bucket, by the moment at which it will be full again (GCRA).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A bucket with nothing in it: nobody knows what was just sent.
    pub(crate) fn empty(terms: &Terms, now: Instant) -> Self {
        Self {
            full_at: now + full(terms),
        }
    }

    /// Takes one token; where there is none, says in how long there will be.
    pub(crate) fn take(&mut self, terms: &Terms, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.clamp(now, now + full(terms));
        let after = full_at + terms.interval;
        let excess = after.saturating_duration_since(now + full(terms));
        if !excess.is_zero() {
            self.full_at = full_at;
            return Err(excess);
        }
        self.full_at = after;
        Ok(())
    }
}

fn full(terms: &Terms) -> Duration {
    terms.interval.saturating_mul(terms.capacity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use model::Rate;

    fn terms(rate: u32, burst: u32) -> Terms {
        let limits = Limits::new(Some(Rate::per_second(rate)), 1).with_burst(burst);
        Terms::of(&limits, Duration::ZERO).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_bucket_gives_its_first_token_after_one_interval() {
        let terms = terms(10, 5);
        let mut bucket = Bucket::empty(&terms, Instant::now());
        assert_eq!(
            bucket.take(&terms, Instant::now()),
            Err(Duration::from_millis(100))
        );
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(bucket.take(&terms, Instant::now()), Ok(()));
        assert_eq!(
            bucket.take(&terms, Instant::now()),
            Err(Duration::from_millis(100))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_the_burst() {
        let terms = terms(10, 5);
        let mut bucket = Bucket::empty(&terms, Instant::now());
        tokio::time::advance(Duration::from_secs(3600)).await;
        let taken = (0..10)
            .filter(|_| bucket.take(&terms, Instant::now()).is_ok())
            .count();
        assert_eq!(taken, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_raised_rate_is_not_held_back_by_the_debt_of_the_old_one() {
        let slow = Terms {
            interval: Duration::from_secs(3600),
            ..terms(1, 1)
        };
        let mut bucket = Bucket::empty(&slow, Instant::now());
        let fast = terms(10, 1);
        assert_eq!(
            bucket.take(&fast, Instant::now()),
            Err(Duration::from_millis(100))
        );
    }
}
