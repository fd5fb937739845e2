//! How many tokens a worker takes from Redis at once, and how long they are good.
//!
//! A token may be used up to `validity` after Redis granted it, so in a window `w` a path sends what was granted in
//! `w + validity`: at most `capacity + rate * (w + validity)`. With `validity * rate <= chunk` and
//! `capacity = burst - chunk` that is at most `burst + rate * w`, whatever the number of workers. A token that is used
//! at once needs no such reserve, so a lease of one token leaves the bucket its whole burst. Only the way of the
//! answer over the network is not counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::Limits;

/// The terms on which tokens of one path are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The average distance between two tokens.
    pub(crate) interval: Duration,
    /// How many tokens the bucket in Redis holds.
    pub(crate) capacity: u32,
    /// How many tokens may be taken at once.
    pub(crate) chunk: u32,
    /// How long they are good.
    pub(crate) validity: Duration,
}

impl Terms {
    /// None where the rate is not limited.
    pub(crate) fn of(limits: &Limits, lease: Duration) -> Option<Self> {
        let interval = limits.rate()?.interval().max(Duration::from_nanos(1));
        let in_lease = u32::try_from(lease.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        let chunk = in_lease.min(limits.burst() / 2).max(1);
        let reserve = if chunk > 1 { chunk } else { 0 };
        Some(Self {
            interval,
            capacity: limits.burst() - reserve,
            chunk,
            validity: lease.min(interval.saturating_mul(chunk)),
        })
    }
}

/// The tokens of one path that this worker holds, and what it has learned about how many it needs.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    tokens: u32,
    granted: u32,
    wanted: u32,
    expires: Option<Instant>,
}

impl Lease {
    /// Uses one token, if there is one that is still good.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        if self.expires.is_none_or(|expires| expires <= now) || self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// Puts a token back that was spent and not used, unless it was one of another lease.
    pub(crate) fn put_back(&mut self, expires: Instant) {
        self.tokens += u32::from(self.expires == Some(expires));
    }

    /// Until when the tokens are good.
    pub(crate) fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// How many tokens to ask for: twice as many where the last ones were used up, or else as many as were used.
    pub(crate) fn demand(&mut self, chunk: u32) -> u32 {
        let next = match self.tokens {
            0 => self.wanted.saturating_mul(2),
            left => self.granted - left,
        };
        self.wanted = next.clamp(1, chunk);
        self.wanted
    }

    /// Takes in `granted` tokens, of which the first is already used.
    pub(crate) fn fill(&mut self, granted: u32, expires: Instant) {
        self.tokens = granted.saturating_sub(1);
        self.granted = granted;
        self.expires = Some(expires);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use model::Rate;

    proptest! {
        #[test]
        fn what_is_in_workers_hands_is_taken_out_of_the_burst(
            rate in 1_u32..100_000, burst in 1_u32..100_000, lease in 1_u64..1_000,
        ) {
            let limits = Limits::new(Some(Rate::per_second(rate)), 1).with_burst(burst);
            let terms = Terms::of(&limits, Duration::from_millis(lease)).unwrap();
            prop_assert!(terms.capacity >= 1);
            prop_assert!(terms.capacity >= terms.chunk, "a full bucket fills a lease");
            if terms.chunk > 1 {
                let in_hand = terms.validity.as_secs_f64() * f64::from(rate);
                prop_assert!(f64::from(terms.capacity) + in_hand <= f64::from(burst) + 1e-3);
            }
        }
    }

    #[test]
    fn a_path_without_a_rate_has_no_terms() {
        assert_eq!(
            Terms::of(&Limits::new(None, 1), Duration::from_millis(200)),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_not_hoarded_past_their_time() {
        let mut lease = Lease::default();
        lease.fill(3, Instant::now() + Duration::from_millis(200));
        assert!(lease.spend(Instant::now()));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(!lease.spend(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_not_used_is_as_good_as_before_and_no_longer() {
        let (mut lease, soon) = (
            Lease::default(),
            Instant::now() + Duration::from_millis(200),
        );
        lease.fill(2, soon);
        assert!(lease.spend(Instant::now()));
        lease.put_back(soon);
        assert!(lease.spend(Instant::now()));
        lease.fill(1, soon + Duration::from_millis(200));
        lease.put_back(soon);
        assert!(
            !lease.spend(Instant::now()),
            "it was one of the lease before"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_uses_all_asks_for_more_and_who_uses_little_for_little() {
        let mut lease = Lease::default();
        let later = Instant::now() + Duration::from_secs(1);
        assert_eq!([1, 2, 4, 8], [(); 4].map(|()| lease.demand(20)));
        lease.fill(8, later);
        assert!(lease.spend(Instant::now()));
        assert_eq!(lease.demand(20), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn being_granted_less_than_asked_for_does_not_make_a_worker_ask_for_less() {
        let mut lease = Lease::default();
        let later = Instant::now() + Duration::from_secs(1);
        while lease.demand(20) < 20 {}
        lease.fill(1, later);
        assert_eq!(lease.demand(20), 20);
    }
}
