//! What a provider remembers of the clients that connect to it: open connections and the pace of their messages.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Rate;
use tokio::time::Instant;

/// How much is granted to a client at once, in time.
const BURST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Visitor {
    open: u32,
    /// The moment up to which the client has used up its rate.
    paid_until: Option<Instant>,
}

/// One provider's clients, by address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitors(Arc<Mutex<HashMap<IpAddr, Visitor>>>);

impl Visitors {
    /// Lets a connection in, unless its client has `most` open already.
    pub(crate) fn enter(&self, client: IpAddr, most: Option<NonZeroU32>) -> Option<Visit> {
        let mut visitors = self.lock();
        let visitor = visitors.entry(client).or_default();
        if most.is_some_and(|most| visitor.open >= most.get()) {
            return None;
        }
        visitor.open += 1;
        let visitors = self.clone();
        Some(Visit { visitors, client })
    }

    /// Whether `client` may send one more message now, at this rate and with bursts of a second's worth.
    pub(crate) fn admit(&self, client: IpAddr, rate: Rate, now: Instant) -> bool {
        let mut visitors = self.lock();
        let visitor = visitors.entry(client).or_default();
        let paid = visitor.paid_until.map_or(now, |until| until.max(now)) + rate.interval();
        let admitted = paid <= now + BURST.max(rate.interval());
        if admitted {
            visitor.paid_until = Some(paid);
        }
        admitted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Visitor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Visit {
    visitors: Visitors,
    client: IpAddr,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(visitor) = self.visitors.lock().get_mut(&self.client) {
            visitor.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ANN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
    const BOB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn a_client_has_so_many_connections_and_no_more() {
        let visitors = Visitors::default();
        let most = NonZeroU32::new(1);
        let visit = visitors.enter(ANN, most);
        assert!(visit.is_some());
        assert!(visitors.enter(ANN, most).is_none());
        assert!(visitors.enter(BOB, most).is_some());
        drop(visit);
        assert!(visitors.enter(ANN, most).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_sends_at_the_rate_after_a_seconds_burst() {
        let visitors = Visitors::default();
        let now = Instant::now();
        let admitted = |at: Duration| {
            let ask = || visitors.admit(ANN, Rate::per_second(10), now + at);
            std::iter::repeat_with(ask)
                .take(100)
                .filter(|yes| *yes)
                .count()
        };
        assert_eq!(admitted(Duration::ZERO), 10);
        assert_eq!(admitted(Duration::from_millis(100)), 1);
        assert_eq!(admitted(Duration::from_secs(60)), 10);
        assert!(visitors.admit(BOB, Rate::per_second(10), now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_below_one_a_second_still_lets_one_through() {
        let visitors = Visitors::default();
        let rate: Rate = "1/min".parse().unwrap();
        let now = Instant::now();
        assert!(visitors.admit(ANN, rate, now));
        assert!(!visitors.admit(ANN, rate, now + Duration::from_secs(30)));
        assert!(visitors.admit(ANN, rate, now + Duration::from_secs(60)));
    }
}
