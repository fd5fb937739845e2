//! What a path may do at most, and what of it falls to one worker alone.

use model::Rate;

use crate::standing::Standing;

/// The limits of one path, for all workers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    rate: Option<Rate>,
    burst: u32,
    connections: u32,
}

impl Limits {
    /// At most `rate` messages, with a burst of one second's worth, over at most `connections` connections.
    ///
    /// No rate is no limit on it; 0 connections close the path.
    pub fn new(rate: Option<Rate>, connections: u32) -> Self {
        Self {
            rate,
            burst: 1,
            connections,
        }
        .with_burst(rate.map_or(1, second_worth))
    }

    /// The same with another burst: how many messages may go at once after a pause; at least 1.
    pub fn with_burst(self, burst: u32) -> Self {
        Self {
            burst: burst.max(1),
            ..self
        }
    }

    /// Messages over time; none where they are not limited.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// How many messages may go at once after a pause.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// How many connections may be open.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// What one of `workers` that has this standing on the path may do when it cannot ask the others. Never nothing, where there is
    /// something to share.
    ///
    /// Those that use the path have most of the rate: others seldom have mail for it, because lanes are leased. A connection
    /// that is open somewhere else hurts at once, and so those are shared among all.
    pub(crate) fn share(&self, workers: u32, standing: Standing) -> Self {
        let workers = workers.max(1);
        let (parts, whole) = standing.part(workers);
        let burst = u64::from(self.burst) * u64::from(parts) / u64::from(whole);
        Self {
            rate: self.rate.map(|rate| rate.fraction(parts, whole)),
            burst: u32::try_from(burst).unwrap_or(self.burst).max(1),
            connections: (self.connections / workers).max(1).min(self.connections),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and counts in u32; the cast saturates"
)]
fn second_worth(rate: Rate) -> u32 {
    rate.per_second_f64() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_burst_is_one_second_of_the_rate_and_never_less_than_a_message() {
        let burst = |rate: &str| Limits::new(Some(rate.parse().unwrap()), 1).burst();
        assert_eq!(burst("100/s"), 100);
        assert_eq!(burst("600/min"), 10);
        assert_eq!(burst("20/min"), 1);
        assert_eq!(Limits::new(None, 1).burst(), 1);
    }

    #[test]
    fn a_share_is_at_least_one_connection_and_a_slower_rate() {
        let share = Limits::new(Some(Rate::per_second(10)), 2).share(4, Standing::Among(4));
        assert_eq!(share.connections(), 1);
        assert_eq!(share.burst(), 2);
        assert_eq!(
            share.rate().unwrap().interval(),
            Rate::per_second(10).interval() * 4
        );
    }

    #[test]
    fn most_of_a_rate_is_for_those_who_use_the_path_and_connections_are_shared_among_all() {
        let share = Limits::new(Some(Rate::per_second(100)), 20).share(4, Standing::Among(1));
        assert_eq!((share.burst(), share.connections()), (80, 5));
    }

    #[test]
    fn a_closed_path_stays_closed_when_shared() {
        assert_eq!(
            Limits::new(None, 0)
                .share(3, Standing::Among(3))
                .connections(),
            0
        );
    }
}
