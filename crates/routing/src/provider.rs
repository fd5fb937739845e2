//! Names who runs a set of mail exchangers.
//!
//! Decides by reviewed names (`providers.toml`), all hosts of a set or none; a set nobody reviewed is named after
//! its hosts. Invariant: a reviewed name has no dot and one made of hosts has one, so that no choice of host names
//! passes for a reviewed provider.

use model::Provider;
use serde::Deserialize;

use crate::host::{is_host_name, normal};

const BUILT_IN: &str = include_str!("../providers.toml");

/// A provider and its mail exchangers' names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderRule {
    /// The provider's name: lower-case letters, digits and hyphens.
    pub name: String,
    /// Host names in lower case. One that begins with a dot stands for every host below it: `.google.com`.
    pub hosts: Vec<String>,
}

/// Why a provider rule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The rules are not written as they should be.
    #[error("the provider rules do not parse")]
    Syntax(#[from] toml::de::Error),
    /// The name could be mistaken for a host's, or would be changed by [`Provider::new`].
    #[error("{0:?} cannot name a provider; use lower-case letters, digits and hyphens")]
    Name(String),
    /// A rule names no host, or something that is none.
    #[error(
        "provider {name:?} has the host {host:?}; write \"mx.example.com\" or \".example.com\""
    )]
    Host {
        /// The rule's name.
        name: String,
        /// What stands where a host should.
        host: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Vec<ProviderRule>,
}

/// The rules, in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct Providers(Vec<ProviderRule>);

impl Providers {
    /// `extra` rules, and the built-in ones behind them.
    pub fn with(extra: Vec<ProviderRule>) -> Result<Self, ProviderError> {
        let built_in: File = toml::from_str(BUILT_IN)?;
        let rules: Vec<_> = extra.into_iter().chain(built_in.provider).collect();
        rules.iter().try_for_each(check)?;
        Ok(Self(rules))
    }

    /// Who runs `hosts`, the most preferred first, in lower case.
    pub fn name(&self, hosts: &[&str]) -> Provider {
        let runs_all = |rule: &&ProviderRule| hosts.iter().all(|host| rule.runs(host));
        match self.0.iter().find(runs_all) {
            Some(rule) => Provider::new(&rule.name),
            None => Provider::new(&name_of_set(hosts)),
        }
    }
}

impl ProviderRule {
    fn runs(&self, host: &str) -> bool {
        let is = |known: &str| host == known || known.starts_with('.') && host.ends_with(known);
        self.hosts.iter().any(|known| is(known))
    }
}

fn check(rule: &ProviderRule) -> Result<(), ProviderError> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if rule.name.is_empty() || !rule.name.bytes().all(allowed) {
        return Err(ProviderError::Name(rule.name.clone()));
    }
    let wrong = rule.hosts.iter().find(|host| !is_specific(host)).cloned();
    match wrong.or_else(|| rule.hosts.is_empty().then(String::new)) {
        None => Ok(()),
        Some(host) => Err(ProviderError::Host {
            name: rule.name.clone(),
            host,
        }),
    }
}

/// A host's name or the end of some, in the spelling that hosts are compared in, and not one that strangers register
/// names under.
fn is_specific(host: &str) -> bool {
    let name = host.strip_prefix('.').unwrap_or(host);
    is_host_name(name) && normal(name) == name && !is_public_suffix(name)
}

fn is_public_suffix(name: &str) -> bool {
    psl::suffix_str(name).is_some_and(|public| public == name)
}

/// One host names itself. Several are named by the labels they all end in, unless anybody could register under those;
/// then by the first of their names.
fn name_of_set(hosts: &[&str]) -> String {
    let mut sorted = hosts.to_vec();
    sorted.sort_unstable();
    let Some((&first, rest)) = sorted.split_first() else {
        return String::new();
    };
    let shared = rest
        .iter()
        .fold(first, |shared, host| shared_end(shared, host));
    if shared.contains('.') && !is_public_suffix(shared) {
        return shared.to_owned();
    }
    first.to_owned()
}

/// The longest end of `a` on a label border that `b` ends in as well.
fn shared_end<'a>(a: &'a str, b: &str) -> &'a str {
    let labels = a.rsplit('.').zip(b.rsplit('.'));
    let shared = labels
        .take_while(|(x, y)| x == y)
        .map(|(x, _)| x.len() + 1)
        .sum::<usize>();
    &a[a.len() - shared.saturating_sub(1)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in() -> Providers {
        Providers::with(vec![]).unwrap()
    }

    fn name(hosts: &[&str]) -> String {
        built_in().name(hosts).to_string()
    }

    #[test]
    fn every_built_in_rule_is_reachable_and_shares_no_host_with_another() {
        let providers = built_in();
        let mut names = std::collections::BTreeSet::new();
        for rule in &providers.0 {
            assert!(names.insert(&rule.name), "{} has two rules", rule.name);
            for known in &rule.hosts {
                let host = known.replacen('.', "mx1.", usize::from(known.starts_with('.')));
                assert_eq!(providers.name(&[&host]).as_str(), rule.name, "{host}");
                let claims = providers.0.iter().filter(|rule| rule.runs(&host));
                assert_eq!(claims.count(), 1, "{known} is claimed twice");
            }
        }
    }

    #[test]
    fn the_hosts_that_providers_publish_get_their_names() {
        let known: [(&[&str], &str); 9] = [
            (
                &[
                    "gmail-smtp-in.l.google.com",
                    "alt1.gmail-smtp-in.l.google.com",
                ],
                "google",
            ),
            (&["aspmx.l.google.com", "aspmx2.googlemail.com"], "google"),
            (&["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"], "yahoo"),
            (&["outlook-com.olc.protection.outlook.com"], "outlook"),
            (&["contoso-com.mail.protection.outlook.com"], "microsoft365"),
            (&["contoso-com.a-v1.mx.microsoft"], "microsoft365"),
            (&["mx01.mail.icloud.com", "mx02.mail.icloud.com"], "icloud"),
            (&["mx00.emig.gmx.net", "mx01.emig.gmx.net"], "gmx"),
            (&["in1-smtp.messagingengine.com"], "fastmail"),
        ];
        for (hosts, provider) in known {
            assert_eq!(name(hosts), provider, "{hosts:?}");
        }
    }

    #[test]
    fn a_machine_rented_from_a_provider_is_not_the_provider() {
        assert_eq!(name(&["vps-1.vps.ovh.net"]), "vps-1.vps.ovh.net");
        assert_eq!(name(&["smtp-in.orange.fr"]), "orange");
        assert_eq!(name(&["mx.abo.orange.fr"]), "mx.abo.orange.fr");
    }

    #[test]
    fn one_foreign_host_among_a_providers_own_takes_the_name_away() {
        assert_eq!(
            name(&["aspmx.l.google.com", "mx.example.test"]),
            "aspmx.l.google.com"
        );
    }

    #[test]
    fn a_name_that_only_looks_like_a_providers_is_not() {
        assert_eq!(name(&["mx.notgoogle.com"]), "mx.notgoogle.com");
        assert_eq!(
            name(&["mx.google.com.evil.test"]),
            "mx.google.com.evil.test"
        );
    }

    #[test]
    fn an_unknown_set_is_named_by_what_its_hosts_share() {
        assert_eq!(name(&["mx2.example.com", "mx1.example.com"]), "example.com");
        assert_eq!(
            name(&["a.mx.example.com", "b.mx.example.com"]),
            "mx.example.com"
        );
        assert_eq!(name(&["mx.example.com", "amx.example.com"]), "example.com");
        assert_eq!(name(&["example.com", "mx.example.com"]), "example.com");
        assert_eq!(name(&["mx.example.com"]), "mx.example.com");
    }

    #[test]
    fn a_public_suffix_names_nobody() {
        assert_eq!(name(&["mx.b.co.uk", "mx.a.co.uk"]), "mx.a.co.uk");
        assert_eq!(name(&["mx.b.com", "mx.a.com"]), "mx.a.com");
        assert_eq!(name(&["mx.b.com", "mx.a.net"]), "mx.a.net");
    }

    #[test]
    fn an_extra_rule_comes_before_the_built_in_ones() {
        let extra = ProviderRule {
            name: "ours".into(),
            hosts: vec![".l.google.com".into()],
        };
        let providers = Providers::with(vec![extra]).unwrap();
        assert_eq!(providers.name(&["aspmx.l.google.com"]).as_str(), "ours");
        assert_eq!(providers.name(&["mx.google.com"]).as_str(), "google");
    }

    #[test]
    fn a_rule_that_could_name_everybody_or_nobody_is_refused() {
        let rule = |name: &str, hosts: &[&str]| ProviderRule {
            name: name.into(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        for wrong in [
            rule("Google", &[".google.com"]),
            rule("google.com", &[".google.com"]),
            rule("", &[".google.com"]),
            rule("google", &[]),
            rule("google", &[".Google.com"]),
            rule("google", &[".co.uk"]),
            rule("google", &[".com"]),
            rule("google", &["."]),
        ] {
            assert!(Providers::with(vec![wrong.clone()]).is_err(), "{wrong:?}");
        }
    }
}
