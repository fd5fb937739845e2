//! Resolves a domain to its route, and a host to its addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use model::{Clock, Domain, Provider};

use crate::cache::{Answer, Cache};
use crate::dns::{Dns, Lookup, Mx};
use crate::host::{is_host_name, normal};
use crate::{Exchanger, ProviderError, Providers, Route, RouteError, Settings};

/// The most addresses of one host that are ever tried.
const MOST_ADDRESSES: usize = 5;

/// Why routing could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system's resolver configuration cannot be used.
    #[error("cannot set up DNS resolution")]
    Dns(#[from] NetError),
    /// A provider rule cannot be used.
    #[error("cannot use the provider rules")]
    Providers(#[from] ProviderError),
}

/// Decides which hosts may receive mail for a domain, and in what order (RFC 5321 section 5.1).
pub struct Routing {
    dns: Dns,
    providers: Providers,
    own_hosts: Vec<String>,
    routes: Cache<Arc<Route>>,
    addresses: Cache<Arc<[IpAddr]>>,
}

impl Routing {
    /// Routing by `settings`; `clock` tells when an answer of DNS is out of date.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let capacity = settings.cache_capacity;
        let stale = settings.serve_stale;
        Ok(Self {
            dns: Dns::new(&settings)?,
            providers: Providers::with(settings.providers)?,
            own_hosts: settings.own_hosts.iter().map(|host| normal(host)).collect(),
            routes: Cache::new(capacity, stale, Arc::clone(&clock)),
            addresses: Cache::new(capacity, stale, clock),
        })
    }

    /// The hosts that may receive mail for `domain`.
    pub async fn resolve(&self, domain: &Domain) -> Result<Arc<Route>, RouteError> {
        let domain = domain.as_str();
        self.routes.get(domain, || self.ask_for_route(domain)).await
    }

    /// Where to connect to for `host`: at most five addresses, IPv4 and IPv6 in turn, each family in the order DNS
    /// gave. A `host` that is an address literal stands for itself.
    ///
    /// None of them is safe to dial before [`Dialable`](crate::Dialable) says so.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, RouteError> {
        if let Ok(literal) = host.parse() {
            return Ok(vec![literal]);
        }
        let host = normal(host);
        let addresses = self
            .addresses
            .get(&host, || self.ask_for_addresses(&host))
            .await?;
        Ok(addresses.to_vec())
    }

    /// The provider that runs `host`, for hosts that no MX record named, such as a relay.
    pub fn provider_of(&self, host: &str) -> Provider {
        self.providers.name(&[&normal(host)])
    }

    async fn ask_for_route(&self, domain: &str) -> Answer<Arc<Route>> {
        let none = |error, ttl| Answer::new(Err(error), ttl);
        let name = domain.to_owned();
        match self.dns.mx(domain).await {
            Lookup::Found { records, ttl } => Answer::new(self.explicit(name, records), ttl),
            Lookup::NoData { ttl } => {
                Answer::new(self.implicit(name).await, ttl.unwrap_or_default())
            }
            Lookup::NoName { ttl } => none(RouteError::NoSuchDomain { domain: name }, ttl),
            Lookup::Failed(source) => none(RouteError::Unanswered { name, source }, Duration::ZERO),
            Lookup::TimedOut => none(RouteError::TimedOut { name }, Duration::ZERO),
        }
    }

    /// The route that MX records describe. Where none of them can be used there is none: the domain's own address
    /// is no substitute.
    fn explicit(&self, domain: String, records: Vec<Mx>) -> Result<Arc<Route>, RouteError> {
        if records.iter().all(|mx| mx.exchange.is_empty()) {
            return Err(RouteError::NullMx { domain });
        }
        let usable = |mx: &Mx| is_host_name(&mx.exchange);
        let hosts = records
            .into_iter()
            .filter(usable)
            .map(Exchanger::from)
            .collect();
        let Some(route) = self.route_over(hosts) else {
            return Err(RouteError::NoUsableExchanger { domain });
        };
        let is_own = |e: &&Exchanger| self.own_hosts.contains(&e.host);
        let Some(own) = route.exchangers().iter().find(is_own).map(|e| e.preference) else {
            return Ok(Arc::new(route));
        };
        let preferred = route
            .exchangers()
            .iter()
            .filter(|e| e.preference < own)
            .cloned()
            .collect();
        let route = self.route_over(preferred);
        route.map(Arc::new).ok_or(RouteError::LoopsBack { domain })
    }

    /// The domain as its own mail exchanger, if it has an address.
    async fn implicit(&self, domain: String) -> Result<Arc<Route>, RouteError> {
        match self.addresses(&domain).await {
            Ok(_) => {}
            Err(RouteError::NoAddress { .. }) => return Err(RouteError::NoMailHost { domain }),
            Err(other) => return Err(other),
        }
        let own = self.own_hosts.contains(&domain);
        let host = Exchanger {
            preference: 0,
            host: domain.clone(),
        };
        let route = self.route_over(vec![host]).filter(|_| !own);
        route.map(Arc::new).ok_or(RouteError::LoopsBack { domain })
    }

    fn route_over(&self, exchangers: Vec<Exchanger>) -> Option<Route> {
        Route::over(exchangers, |exchangers| {
            let hosts: Vec<&str> = exchangers.iter().map(|e| e.host.as_str()).collect();
            self.providers.name(&hosts)
        })
    }

    async fn ask_for_addresses(&self, host: &str) -> Answer<Arc<[IpAddr]>> {
        let (ipv4, ipv6) = tokio::join!(self.dns.ipv4(host), self.dns.ipv6(host));
        both_families(host, ipv4, ipv6)
    }
}

impl From<Mx> for Exchanger {
    fn from(mx: Mx) -> Self {
        Self {
            preference: mx.preference,
            host: mx.exchange,
        }
    }
}

/// One family that answers is enough; that there is no address at all takes both to say.
fn both_families(host: &str, ipv4: Lookup<IpAddr>, ipv6: Lookup<IpAddr>) -> Answer<Arc<[IpAddr]>> {
    let name = host.to_owned();
    let none = |error, ttl| Answer::new(Err(error), ttl);
    match (ipv4, ipv6) {
        (
            Lookup::Found {
                records: v4,
                ttl: a,
            },
            Lookup::Found {
                records: v6,
                ttl: b,
            },
        ) => Answer::new(Ok(in_turn(v4, v6)), a.min(b)),
        (Lookup::Found { records, ttl }, other) | (other, Lookup::Found { records, ttl }) => {
            let ttl = if other.is_answered() {
                ttl
            } else {
                Duration::ZERO
            };
            Answer::new(Ok(in_turn(records, vec![])), ttl)
        }
        (Lookup::Failed(source), _) | (_, Lookup::Failed(source)) => {
            none(RouteError::Unanswered { name, source }, Duration::ZERO)
        }
        (Lookup::TimedOut, _) | (_, Lookup::TimedOut) => {
            none(RouteError::TimedOut { name }, Duration::ZERO)
        }
        (v4, v6) => match (v4.negative_ttl(), v6.negative_ttl()) {
            (Some(a), Some(b)) => none(RouteError::NoAddress { host: name }, a.min(b)),
            (None, _) | (_, None) => none(RouteError::Unconfirmed { name }, Duration::ZERO),
        },
    }
}

/// Alternates, so that a family that does not work from here costs one address in two. IPv4 comes first: receivers
/// know it better, and judge unknown IPv6 senders harder.
fn in_turn(ipv4: Vec<IpAddr>, ipv6: Vec<IpAddr>) -> Arc<[IpAddr]> {
    let most = ipv4.len().max(ipv6.len());
    (0..most)
        .flat_map(|i| [ipv4.get(i), ipv6.get(i)])
        .flatten()
        .copied()
        .take(MOST_ADDRESSES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_five_addresses_are_enough() {
        let of = |prefix: &str| {
            (1..=9)
                .map(|i| format!("{prefix}{i}").parse().unwrap())
                .collect()
        };
        let shown: Vec<_> = in_turn(of("192.0.2."), of("2001:db8::"))
            .iter()
            .map(IpAddr::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "192.0.2.1",
                "2001:db8::1",
                "192.0.2.2",
                "2001:db8::2",
                "192.0.2.3"
            ]
        );
    }
}
