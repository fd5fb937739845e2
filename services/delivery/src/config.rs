//! What delivery has to be told.

mod transport;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use model::{ByteSize, Provider, Rate, Source, parse_duration};
use runtime::{ConfigError, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use transport::{RawChunking, RawDomain, RawTls, Security, Transport, TransportTable};

use crate::backoff::Backoff;

/// The section `[delivery]` as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// The name this host gives in EHLO: the reverse DNS name of the source address. Empty: the machine's host name.
    pub ehlo_name: String,
    /// The name of the source address, under which limits are shared with the workers that use the same one.
    pub source: String,
    /// The local address connections leave from. Empty: the system's choice.
    pub source_address: String,
    /// DNS servers as address:port. Empty: the system's.
    pub dns_servers: Vec<String>,
    /// The port of the recipients' mail exchangers; 25 everywhere but in tests.
    pub mx_port: u16,
    /// Ranges that may be dialled although they are special-purpose (RFC 6890), such as "127.0.0.0/8" for a local
    /// simulator. Without them no private or loopback address is ever dialled.
    pub dialable: Vec<String>,
    /// Jobs this worker has in hand at most, over all lanes.
    pub window: usize,
    /// Octets this worker has in hand at most, over all lanes. Bodies above 256 KiB are only fetched to be sent.
    pub window_bytes: String,
    /// Pauses before the second, third, ... attempt; the last one repeats until the message expires. Below twice
    /// `nats.ack_wait` a job whose worker dies at that moment may be sent twice.
    pub retry_delays: Vec<String>,
    /// How long an attempt to connect to one address may take.
    pub connect_timeout: String,
    /// How long a server may take for a reply: 5 minutes in RFC 5321, section 4.5.3.2.
    pub reply_timeout: String,
    /// How long a server may take to receive all the content of one message. It has 3 minutes, or `reply_timeout`, for
    /// each 32 KiB besides.
    pub content_timeout: String,
    /// How long a server may take for the reply to the end of a message: 10 minutes in RFC 5321.
    pub end_of_data_timeout: String,
    /// How long an unused connection is kept for the next message.
    pub idle_timeout: String,
    /// How long work in hand may take to end at shutdown. Only messages whose end was sent and not answered take
    /// more than seconds.
    pub drain_deadline: String,
    /// Files with certificates of authorities that are trusted besides Mozilla's, in PEM.
    pub trusted_roots: Vec<PathBuf>,
    /// "never": content leaves behind DATA. "offered": by BDAT where the server offers CHUNKING (RFC 3030), which saves a
    /// round trip on a connection for one message, and sends in vain the content for recipients that are refused.
    pub chunking: RawChunking,
    /// Limits for providers without limits of their own.
    pub limits: RawLimits,
    /// Providers with limits of their own.
    pub providers: Vec<RawProvider>,
    /// Domains of recipients for which something else holds than for their provider.
    pub domains: Vec<RawDomain>,
}

/// How much one provider is sent from one source, by all workers together.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLimits {
    /// Messages in time: "100/s", "600/min", "5000/h". Empty: no limit.
    pub rate: String,
    /// Connections open at once.
    pub connections: u32,
    /// Messages sent over one connection.
    pub messages_per_connection: u32,
}

/// A provider, known by where its MX records point.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawProvider {
    /// Its name: one of the built-in ones ("google", "yahoo", "microsoft365", ...) or your own.
    pub name: String,
    /// Host names of its mail exchangers; ".mail.example.net" stands for every host below it. Not needed for built-in
    /// names.
    #[serde(default)]
    pub mx: Vec<String>,
    /// Its limits.
    #[serde(default)]
    pub limits: RawLimits,
    /// "opportunistic": encrypted where the server offers it, whatever its certificate, otherwise in the clear. "required":
    /// always, and only to a server whose certificate verifies for the name of the mail exchanger.
    #[serde(default)]
    pub tls: RawTls,
    /// "never" or "offered", as `delivery.chunking`, which holds where this is left out.
    #[serde(default)]
    pub chunking: Option<RawChunking>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            rate: String::new(),
            connections: 20,
            messages_per_connection: 100,
        }
    }
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            ehlo_name: String::new(),
            source: "default".into(),
            source_address: String::new(),
            dns_servers: Vec::new(),
            mx_port: 25,
            dialable: Vec::new(),
            window: 10_000,
            window_bytes: "96MiB".into(),
            retry_delays: ["1min", "5min", "15min", "30min", "1h", "2h", "4h"]
                .map(String::from)
                .into(),
            connect_timeout: "30s".into(),
            reply_timeout: "5min".into(),
            content_timeout: "30min".into(),
            end_of_data_timeout: "10min".into(),
            idle_timeout: "5s".into(),
            drain_deadline: "11min".into(),
            trusted_roots: Vec::new(),
            chunking: RawChunking::default(),
            limits: RawLimits::default(),
            providers: Vec::new(),
            domains: Vec::new(),
        }
    }
}

/// How much one provider is sent from one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages in time; `None` is no limit.
    pub rate: Option<Rate>,
    /// Connections open at once, over the whole cluster.
    pub connections: u32,
    /// Messages sent over one connection.
    pub messages_per_connection: u32,
}

impl Limits {
    /// What holds over all workers together, and not over one connection.
    pub(crate) fn shared(&self) -> throttle::Limits {
        throttle::Limits::new(self.rate, self.connections)
    }
}

/// The limits of every provider.
#[derive(Debug, Clone)]
pub struct LimitTable {
    default: Limits,
    by_provider: HashMap<Provider, Limits>,
}

impl LimitTable {
    /// The limits that hold for `provider`.
    pub fn of(&self, provider: &Provider) -> Limits {
        self.by_provider
            .get(provider)
            .copied()
            .unwrap_or(self.default)
    }
}

/// How long to wait for a server.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection to one address.
    pub connect: Duration,
    /// For a reply.
    pub reply: Duration,
    /// For all the content of a message.
    pub content: Duration,
    /// For the reply to the end of a message.
    pub end_of_data: Duration,
    /// For the next message to send.
    pub idle: Duration,
}

/// A configuration that delivery can run with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name given in EHLO; `None` is the machine's.
    pub ehlo_name: Option<String>,
    /// The source's name.
    pub source: Source,
    /// The source's address.
    pub source_address: Option<IpAddr>,
    /// DNS servers; empty is the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// The mail exchangers' port.
    pub mx_port: u16,
    /// Special-purpose ranges that may be dialled.
    pub dialable: Vec<IpNet>,
    /// Jobs in hand at most.
    pub window: usize,
    /// Octets in hand at most.
    pub window_bytes: ByteSize,
    /// When to try again.
    pub backoff: Backoff,
    /// How long to wait for a server.
    pub timeouts: Timeouts,
    /// How long work in hand may take at shutdown.
    pub drain_deadline: Duration,
    /// Every provider's limits.
    pub limits: LimitTable,
    /// Providers known by their MX hosts, besides the built-in ones: name and host suffixes.
    pub providers: Vec<(Provider, Vec<String>)>,
    /// Files with certificates of further authorities.
    pub trusted_roots: Vec<PathBuf>,
    /// How sessions are held.
    pub transport: TransportTable,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut faults = Faults::new("delivery");
        let source = faults.parse("source", &raw.source);
        let source_address = optional(&mut faults, "source_address", &raw.source_address);
        let dns_servers = faults.parse_all("dns_servers", &raw.dns_servers);
        let dialable = faults.parse_all("dialable", &raw.dialable);
        let window_bytes = faults.parse("window_bytes", &raw.window_bytes);
        let backoff = backoff(&mut faults, &raw.retry_delays);
        let timeouts = timeouts(&mut faults, &raw);
        let drain_deadline = faults.check("drain_deadline", parse_duration(&raw.drain_deadline));
        let limits = limit_table(&mut faults, &raw);
        let transport = TransportTable::of_config(&mut faults, &raw);
        if !(100..=100_000).contains(&raw.window) {
            faults.add("window", "must be from 100 to 100000");
        }
        if raw.mx_port == 0 {
            faults.add("mx_port", "must not be 0; mail exchangers listen on 25");
        }
        let config = || {
            Some(Self {
                ehlo_name: Some(raw.ehlo_name).filter(|name| !name.is_empty()),
                source: source?,
                source_address,
                dns_servers,
                mx_port: raw.mx_port,
                dialable,
                window: raw.window,
                window_bytes: window_bytes?,
                backoff: backoff?,
                timeouts: timeouts?,
                drain_deadline: drain_deadline?,
                limits: limits?,
                trusted_roots: raw.trusted_roots,
                transport,
                providers: raw
                    .providers
                    .into_iter()
                    .map(|known| (Provider::new(&known.name), known.mx))
                    .collect(),
            })
        };
        faults.finish(config())
    }
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    faults: &mut Faults,
    key: &str,
    text: &str,
) -> Option<T> {
    if text.is_empty() {
        None
    } else {
        faults.parse(key, text)
    }
}

fn backoff(faults: &mut Faults, delays: &[String]) -> Option<Backoff> {
    let read = |(index, text): (usize, &String)| {
        faults.check(&format!("retry_delays[{index}]"), parse_duration(text))
    };
    let delays: Vec<Duration> = delays.iter().enumerate().filter_map(read).collect();
    faults.check("retry_delays", Backoff::new(delays))
}

fn timeouts(faults: &mut Faults, raw: &RawConfig) -> Option<Timeouts> {
    let mut read = |key, text| faults.check(key, parse_duration(text));
    let connect = read("connect_timeout", &raw.connect_timeout);
    let reply = read("reply_timeout", &raw.reply_timeout);
    let content = read("content_timeout", &raw.content_timeout);
    let end_of_data = read("end_of_data_timeout", &raw.end_of_data_timeout);
    let idle = read("idle_timeout", &raw.idle_timeout);
    Some(Timeouts {
        connect: connect?,
        reply: reply?,
        content: content?,
        end_of_data: end_of_data?,
        idle: idle?,
    })
}

fn limit_table(faults: &mut Faults, raw: &RawConfig) -> Option<LimitTable> {
    let default = limits(faults, "limits", &raw.limits);
    let mut by_provider = HashMap::new();
    for (index, provider) in raw.providers.iter().enumerate() {
        let key = format!("providers[{index}]");
        let name = Provider::new(&provider.name);
        if name.as_str() != provider.name || provider.name.is_empty() {
            faults.add(
                &format!("{key}.name"),
                "must be lower-case letters, digits, dots and hyphens",
            );
        }
        if let Some(limits) = limits(faults, &format!("{key}.limits"), &provider.limits)
            && by_provider.insert(name, limits).is_some()
        {
            faults.add(
                &format!("{key}.name"),
                format!("{} is listed twice; list it once", provider.name),
            );
        }
    }
    Some(LimitTable {
        default: default?,
        by_provider,
    })
}

fn limits(faults: &mut Faults, key: &str, raw: &RawLimits) -> Option<Limits> {
    let rate = optional(faults, &format!("{key}.rate"), &raw.rate);
    for (name, value) in [
        ("connections", raw.connections),
        ("messages_per_connection", raw.messages_per_connection),
    ] {
        if value == 0 {
            faults.add(&format!("{key}.{name}"), "must be at least 1");
        }
    }
    Some(Limits {
        rate,
        connections: raw.connections,
        messages_per_connection: raw.messages_per_connection,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Config::try_from(RawConfig::default()).is_ok());
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let raw = RawConfig {
            source_address: "eth0".into(),
            dialable: vec!["everything".into()],
            domains: vec![RawDomain {
                name: "no domain".into(),
                ..RawDomain::default()
            }],
            retry_delays: vec![],
            limits: RawLimits {
                rate: "fast".into(),
                connections: 0,
                ..RawLimits::default()
            },
            ..RawConfig::default()
        };
        let text = Config::try_from(raw).unwrap_err().to_string();
        let keys = [
            "source_address",
            "dialable[0]",
            "domains[0].name",
            "retry_delays",
            "limits.rate",
            "limits.connections",
        ];
        for key in keys {
            assert!(
                text.contains(&format!("delivery.{key}: ")),
                "{key} is missing in: {text}"
            );
        }
    }
}
