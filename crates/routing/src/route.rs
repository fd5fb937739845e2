//! Where mail for a domain may go.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use model::Provider;
use rand::Rng;
use rand::seq::SliceRandom;

/// The most exchangers of a domain that are ever considered, the most preferred first.
const MOST_EXCHANGERS: usize = 10;

/// One host that may receive mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchanger {
    /// How far from preferred it is: lower comes first.
    pub preference: u16,
    /// The host's name, in lower-case A-labels without a trailing dot.
    pub host: String,
}

/// The set of hosts of a route. Jobs whose routes have equal sites may share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site(Arc<str>);

impl Site {
    fn of(exchangers: &[Exchanger]) -> Self {
        let hosts: BTreeSet<&str> = exchangers.iter().map(|e| e.host.as_str()).collect();
        Self(hosts.into_iter().collect::<Vec<_>>().join(",").into())
    }

    /// The host names, sorted and joined by commas.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hosts that may receive mail for a domain: at least one, at most ten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    provider: Provider,
    exchangers: Vec<Exchanger>,
    site: Site,
}

impl Route {
    /// The route over `exchangers`, whose provider `name` tells; none where there is no exchanger.
    pub(crate) fn over(
        mut exchangers: Vec<Exchanger>,
        name: impl FnOnce(&[Exchanger]) -> Provider,
    ) -> Option<Self> {
        exchangers.sort();
        let mut seen = BTreeSet::new();
        exchangers.retain(|exchanger| seen.insert(exchanger.host.clone()));
        exchangers.truncate(MOST_EXCHANGERS);
        if exchangers.is_empty() {
            return None;
        }
        Some(Self {
            provider: name(&exchangers),
            site: Site::of(&exchangers),
            exchangers,
        })
    }

    /// Who runs the mailboxes.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The hosts, the most preferred first; equals in the order of their names.
    pub fn exchangers(&self) -> &[Exchanger] {
        &self.exchangers
    }

    /// The set of the hosts.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The hosts in the order in which one attempt tries them: by preference, equals in random order, so that the
    /// attempts of many spread over them (RFC 5321 section 5.1).
    pub fn attempt_order<R: Rng + ?Sized>(&self, rng: &mut R) -> Vec<&Exchanger> {
        let mut order: Vec<&Exchanger> = self.exchangers.iter().collect();
        for equals in order.chunk_by_mut(|a, b| a.preference == b.preference) {
            equals.shuffle(rng);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn route(hosts: &[(u16, &str)]) -> Option<Route> {
        let exchangers = hosts.iter().map(|(preference, host)| Exchanger {
            preference: *preference,
            host: (*host).into(),
        });
        Route::over(exchangers.collect(), |_| Provider::new("any"))
    }

    #[test]
    fn a_route_over_no_hosts_does_not_exist() {
        assert_eq!(route(&[]), None);
    }

    #[test]
    fn a_host_named_twice_counts_once_at_its_best_preference() {
        let route = route(&[(20, "a.test"), (10, "a.test"), (15, "b.test")]).unwrap();
        let hosts: Vec<_> = route.exchangers().iter().map(|e| e.preference).collect();
        assert_eq!(hosts, [10, 15]);
    }

    #[test]
    fn no_more_than_ten_of_many_hosts_are_considered_and_those_are_the_preferred() {
        let names: Vec<_> = (0..100).map(|i| format!("mx{i}.example.test")).collect();
        let hosts: Vec<_> = (0..100)
            .rev()
            .zip(names.iter().map(String::as_str))
            .collect();
        let route = route(&hosts).unwrap();
        assert_eq!(route.exchangers().len(), 10);
        assert_eq!(route.exchangers().last().unwrap().preference, 9);
    }

    #[test]
    fn the_same_hosts_make_the_same_site_whatever_their_order() {
        let one = route(&[(10, "a.test"), (20, "b.test")]).unwrap();
        let other = route(&[(5, "b.test"), (5, "a.test")]).unwrap();
        let fewer = route(&[(10, "a.test")]).unwrap();
        assert_eq!(one.site(), other.site());
        assert_ne!(one.site(), fewer.site());
    }

    #[test]
    fn preference_decides_before_chance_does() {
        let route = route(&[(30, "c.test"), (10, "a.test"), (20, "b.test")]).unwrap();
        let order = route.attempt_order(&mut StdRng::seed_from_u64(1));
        let hosts: Vec<_> = order.iter().map(|e| e.host.as_str()).collect();
        assert_eq!(hosts, ["a.test", "b.test", "c.test"]);
    }

    /// Pearson's chi-square over the 24 orders of four equals: 23 degrees of freedom, 49.7 at p = 0.001.
    #[test]
    fn every_order_of_equals_is_as_likely_as_any_other() {
        const DRAWS: usize = 24_000;
        let hosts = [
            (10, "a.test"),
            (10, "b.test"),
            (10, "c.test"),
            (10, "d.test"),
        ];
        let route = route(&hosts).unwrap();
        let mut rng = StdRng::seed_from_u64(5321);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..DRAWS {
            let order = route.attempt_order(&mut rng);
            let names: String = order.iter().map(|e| &e.host[..1]).collect();
            *counts.entry(names).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let expected = DRAWS as f64 / 24.0;
        let chi_square: f64 = counts
            .values()
            .map(|&n| (f64::from(n) - expected).powi(2) / expected)
            .sum();
        assert!(chi_square < 49.7, "{chi_square}: {counts:?}");
    }
}
