//! Asks DNS, and tells apart what it said from what it did not say.
//!
//! Owns the DNS client. Never caches (`cache` does) and never decides what an answer means for mail.
//! Every name is asked for as it is: no search domains, no hosts file.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::Settings;

/// How often one server is asked again, after the first time.
const RETRIES: usize = 2;
/// How many questions may be open at one server.
const MOST_OPEN: usize = 1024;

/// One mail exchanger as its record names it: lower-case, without the trailing dot, so the root is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mx {
    pub(crate) preference: u16,
    pub(crate) exchange: String,
}

/// What DNS said about one name and type.
#[derive(Debug, Clone)]
pub(crate) enum Lookup<T> {
    /// There are such records: at least one.
    Found { records: Vec<T>, ttl: Duration },
    /// The name exists, without such records. No TTL where the answer proves nothing (RFC 2308 section 2.2: no SOA).
    NoData { ttl: Option<Duration> },
    /// The name does not exist.
    NoName { ttl: Duration },
    /// No answer.
    Failed(NetError),
    /// No answer in time.
    TimedOut,
}

impl<T> Lookup<T> {
    /// For how long the records are known not to exist; none where they may.
    pub(crate) fn negative_ttl(&self) -> Option<Duration> {
        match self {
            Self::NoData { ttl } => *ttl,
            Self::NoName { ttl } => Some(*ttl),
            Self::Found { .. } | Self::Failed(_) | Self::TimedOut => None,
        }
    }

    /// Whether a server answered, be it with nothing.
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::Found { .. } | Self::NoData { .. } | Self::NoName { .. } => true,
            Self::Failed(_) | Self::TimedOut => false,
        }
    }
}

/// Asks the recursive resolvers.
pub(crate) struct Dns {
    resolver: TokioResolver,
    timeout: Duration,
}

impl Dns {
    pub(crate) fn new(settings: &Settings) -> Result<Self, NetError> {
        let mut builder = if settings.dns_servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = settings.dns_servers.iter().map(name_server).collect();
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, vec![], servers),
                TokioRuntimeProvider::default(),
            )
        };
        careful(builder.options_mut(), settings.timeout);
        Ok(Self {
            resolver: builder.build()?,
            timeout: settings.timeout,
        })
    }

    /// The mail exchangers of `name`.
    pub(crate) async fn mx(&self, name: &str) -> Lookup<Mx> {
        self.lookup(name, RecordType::MX, |data| match data {
            RData::MX(mx) => Some(Mx {
                preference: mx.preference,
                exchange: bare(&mx.exchange),
            }),
            _ => None,
        })
        .await
    }

    /// The IPv4 addresses of `name`.
    pub(crate) async fn ipv4(&self, name: &str) -> Lookup<IpAddr> {
        self.lookup(name, RecordType::A, RData::ip_addr).await
    }

    /// The IPv6 addresses of `name`.
    pub(crate) async fn ipv6(&self, name: &str) -> Lookup<IpAddr> {
        self.lookup(name, RecordType::AAAA, RData::ip_addr).await
    }

    async fn lookup<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Lookup<T> {
        let mut absolute = match Name::from_ascii(name) {
            Ok(absolute) => absolute,
            Err(error) => return Lookup::Failed(error.into()),
        };
        absolute.set_fqdn(true);
        let question = self.resolver.lookup(absolute, kind);
        match tokio::time::timeout(self.timeout, question).await {
            Ok(Ok(answer)) => {
                let ttl = answer.answers().iter().map(|record| record.ttl).min();
                let records = answer
                    .answers()
                    .iter()
                    .filter_map(|record| read(&record.data));
                found(records.collect(), seconds(ttl))
            }
            Ok(Err(error)) => not_found(error),
            Err(_elapsed) => Lookup::TimedOut,
        }
    }
}

/// A CNAME record that leads to none of the records asked for proves nothing.
fn found<T>(records: Vec<T>, ttl: Duration) -> Lookup<T> {
    if records.is_empty() {
        return Lookup::NoData { ttl: None };
    }
    Lookup::Found { records, ttl }
}

fn not_found<T>(error: NetError) -> Lookup<T> {
    match error {
        NetError::Timeout => Lookup::TimedOut,
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Lookup::NoName {
                ttl: seconds(none.negative_ttl),
            },
            ResponseCode::NoError => Lookup::NoData {
                ttl: none.negative_ttl.map(|ttl| seconds(Some(ttl))),
            },
            _ => Lookup::Failed(DnsError::ResponseCode(none.response_code).into()),
        },
        other => Lookup::Failed(other),
    }
}

fn seconds(ttl: Option<u32>) -> Duration {
    Duration::from_secs(ttl.unwrap_or_default().into())
}

fn bare(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Spoofed answers must guess the case of the name (0x20) as well as port and id; big answers move to TCP.
fn careful(options: &mut ResolverOpts, timeout: Duration) {
    options.timeout = timeout / (RETRIES as u32 + 1);
    options.attempts = RETRIES;
    options.cache_size = 0;
    options.case_randomization = true;
    options.max_active_requests = MOST_OPEN;
    options.try_tcp_on_error = true;
    options.use_hosts_file = ResolveHosts::Never;
}
