//! The configuration of mailsim: what the file says, and what that comes to.

mod manner;
mod provider;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use model::parse_duration;
use runtime::{ConfigError, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use manner::asked_by;
pub use manner::{At, Habit, HabitError, Often};
pub use provider::{
    Conduct, DownWindow, HostAnswer, Mx, Policy, Provider, RawDownWindow, RawMx, RawProvider,
    RawSessionLimits, SessionLimits, Tls,
};

use crate::world;

/// Plays the world's mailbox providers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// The port on which every provider listens, each at its own loopback address; 0 takes one that is free at all of them.
    pub mx_port: u16,
    /// Address and port of the DNS server, UDP and TCP; port 0 takes a free one.
    pub dns_listen: String,
    /// How long resolvers may keep an answer.
    pub dns_ttl: String,
    /// A file to which every decision on a recipient is appended as a line of JSON; none by default.
    pub ledger: Option<PathBuf>,
    /// A directory for every octet that clients send, a file for each session and for each message; none by default.
    pub record: Option<PathBuf>,
    /// A file for the certificate of the authority that vouches for "verified" providers, in PEM. The authority is made anew at every start; written nowhere by default.
    pub authority: Option<PathBuf>,
    /// How long every reply is held back in a transaction with the recipient slow@.
    pub slow: String,
    /// How long after the first attempt the recipient greylist@ is accepted.
    pub greylist: String,
    /// The providers of this world; where none is given, a built-in set of eight.
    pub providers: Vec<RawProvider>,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            mx_port: 2525,
            dns_listen: "127.0.0.1:5354".into(),
            dns_ttl: "60s".into(),
            ledger: None,
            record: None,
            authority: None,
            slow: "2s".into(),
            greylist: "3s".into(),
            providers: Vec::new(),
        }
    }
}

/// A configuration that can be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The port on which every provider listens; 0 for any.
    pub mx_port: u16,
    /// Where the DNS server listens.
    pub dns_listen: SocketAddr,
    /// How long resolvers may keep an answer.
    pub dns_ttl: Duration,
    /// Where decisions are written down.
    pub ledger: Option<PathBuf>,
    /// Where everything received is kept.
    pub record: Option<PathBuf>,
    /// Where the authority's certificate is written.
    pub authority: Option<PathBuf>,
    /// How long replies are held back on account of slow@.
    pub slow: Duration,
    /// How long greylist@ is deferred.
    pub greylist: Duration,
    /// The providers, with distinct names, domains, host names and addresses.
    pub providers: Vec<Provider>,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut faults = Faults::new("mailsim");
        let dns_listen = dns_listen(&mut faults, &raw.dns_listen);
        let dns_ttl = faults.check("dns_ttl", parse_duration(&raw.dns_ttl));
        let slow = faults.check("slow", parse_duration(&raw.slow));
        let greylist = faults.check("greylist", parse_duration(&raw.greylist));
        let providers = providers(&mut faults, raw.providers);
        let config = || {
            Some(Self {
                mx_port: raw.mx_port,
                dns_listen: dns_listen?,
                dns_ttl: dns_ttl?,
                ledger: raw.ledger,
                record: raw.record,
                authority: raw.authority,
                slow: slow?,
                greylist: greylist?,
                providers,
            })
        };
        let config = config();
        faults.finish(config)
    }
}

fn dns_listen(faults: &mut Faults, text: &str) -> Option<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            faults.add(
                "dns_listen",
                format_args!("{text:?} is not an address and port such as \"127.0.0.1:5354\""),
            );
            None
        }
    }
}

fn providers(faults: &mut Faults, raw: Vec<RawProvider>) -> Vec<Provider> {
    let raw = if raw.is_empty() {
        world::built_in()
    } else {
        raw
    };
    let mut seen = HashSet::new();
    let mut providers = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("providers[{index}]");
        if let Some(provider) = raw.validate(faults, &key, default_address(index)) {
            report_repetitions(faults, &key, &provider, &mut seen);
            providers.push(provider);
        }
    }
    providers
}

/// 127.0.1.1 for the first provider, 127.0.1.2 for the second.
fn default_address(index: usize) -> IpAddr {
    let [high, low] = u16::try_from(index + 1).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(127, 0, high.saturating_add(1), low).into()
}

fn report_repetitions(
    faults: &mut Faults,
    key: &str,
    provider: &Provider,
    seen: &mut HashSet<String>,
) {
    let hosts = match &provider.mx {
        Mx::Hosts(hosts) => hosts.as_slice(),
        Mx::Null => &[],
    };
    let once = [
        ("name", format!("the name {}", provider.name)),
        ("address", format!("the address {}", provider.address)),
    ]
    .into_iter()
    .chain(
        provider
            .domains
            .iter()
            .map(|domain| ("domains", format!("the domain {domain}"))),
    )
    .chain(
        hosts
            .iter()
            .map(|host| ("mx_hosts", format!("the host {host}"))),
    );
    for (field, what) in once {
        if seen.contains(&what) {
            faults.add(
                &format!("{key}.{field}"),
                format_args!("{what} is taken already; give each provider its own"),
            );
        }
        seen.insert(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(toml: &str) -> String {
        let raw: RawConfig = serde_json::from_str(toml).unwrap();
        match Config::try_from(raw) {
            Ok(config) => panic!("{config:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn without_a_word_the_world_is_the_built_in_one() {
        let config = Config::try_from(RawConfig::default()).unwrap();
        assert_eq!(config.providers.len(), 8);
        assert_eq!(config.providers[0].address, Ipv4Addr::new(127, 0, 1, 1));
        assert_eq!(config.mx_port, 2525);
    }

    #[test]
    fn every_fault_is_reported_with_its_key_and_remedy() {
        expect_test::expect![[r#"
            mailsim.dns_listen: "53" is not an address and port such as "127.0.0.1:5354"
            mailsim.slow: "fast" is not a duration such as "250ms", "90s", "5min", "2h" or "3d"
            mailsim.providers[0].name: must not be empty
            mailsim.providers[0].domains: name at least one domain
            mailsim.providers[1].address: "here" is not an IP address such as "127.0.1.1"
            mailsim.providers[1].rate_limit: "many" is not a rate such as "100/s", "600/min", "5000/h" or "20000/d"
            mailsim.providers[1].down[0].until: must be later than from"#]]
        .assert_eq(&faults(
            r#"{
                "dns_listen": "53", "slow": "fast",
                "providers": [
                    {},
                    {"name": "b", "domains": ["b.example"], "address": "here", "rate_limit": "many",
                     "down": [{"from": "10s", "until": "5s"}]}
                ]
            }"#,
        ));
    }

    #[test]
    fn what_two_providers_claim_is_a_fault() {
        expect_test::expect![[r#"
            mailsim.providers[1].address: the address 127.0.1.1 is taken already; give each provider its own
            mailsim.providers[1].domains: the domain a.example is taken already; give each provider its own
            mailsim.providers[1].mx_hosts: the host mx1.a.example is taken already; give each provider its own"#]]
        .assert_eq(&faults(
            r#"{"providers": [
                {"name": "a", "domains": ["a.example"]},
                {"name": "b", "domains": ["a.example"], "address": "127.0.1.1"}
            ]}"#,
        ));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<RawConfig>(r#"{"mxport": 1}"#).is_err());
        assert!(serde_json::from_str::<RawConfig>(r#"{"providers": [{"nme": "a"}]}"#).is_err());
    }
}
