//! What an operator may choose about routing.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ProviderRule;

/// Settings of [`Routing`](crate::Routing).
#[derive(Debug, Clone)]
pub struct Settings {
    /// The recursive resolvers to ask. Empty: the ones of the system (`/etc/resolv.conf`).
    pub dns_servers: Vec<SocketAddr>,
    /// How long one question may take in all, retries and TCP included.
    pub timeout: Duration,
    /// How many domains, and how many hosts, the caches hold.
    pub cache_capacity: u64,
    /// For how long past its TTL a route is still used while DNS does not answer (RFC 8767).
    pub serve_stale: Duration,
    /// The host names this installation receives mail under. As a mail exchanger one of them ends the list: what
    /// is not preferred to ourselves must not be tried (RFC 5321 section 5.1).
    pub own_hosts: Vec<String>,
    /// Providers to name in addition to the built-in ones, which they precede.
    pub providers: Vec<ProviderRule>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dns_servers: Vec::new(),
            timeout: Duration::from_secs(10),
            cache_capacity: 100_000,
            serve_stale: Duration::from_secs(6 * 3600),
            own_hosts: Vec::new(),
            providers: Vec::new(),
        }
    }
}
