//! The built-in providers, and which provider a domain belongs to.

use std::collections::HashMap;

use crate::config::{Policy, Provider, RawDownWindow, RawMx, RawProvider};

/// The providers of a world that was not configured.
pub(crate) fn built_in() -> Vec<RawProvider> {
    vec![
        RawProvider {
            mx_hosts: hosts(["mx1.gmail.example", "mx2.gmail.example"]),
            ..provider("gmail", ["gmail.example", "googlemail.example"])
        },
        RawProvider {
            rate_limit: Some("20/s".into()),
            max_connections: Some(20),
            ..provider("yahoo", ["yahoo.example", "ymail.example"])
        },
        RawProvider {
            greylist: Some("3s".into()),
            ..provider("outlook", ["outlook.example", "hotmail.example"])
        },
        RawProvider {
            policy: Policy::Reject,
            ..provider("rejects", ["rejects.example"])
        },
        RawProvider {
            policy: Policy::Defer,
            ..provider("defers", ["defers.example"])
        },
        RawProvider {
            down: vec![RawDownWindow {
                from: "0s".into(),
                until: "20s".into(),
            }],
            ..provider("down", ["down.example"])
        },
        RawProvider {
            latency: "300ms".into(),
            ..provider("slow", ["slow.example"])
        },
        RawProvider {
            mx: RawMx::Null,
            ..provider("nullmx", ["nullmx.example"])
        },
    ]
}

fn provider<const N: usize>(name: &str, domains: [&str; N]) -> RawProvider {
    RawProvider {
        name: name.into(),
        domains: hosts(domains),
        ..RawProvider::default()
    }
}

fn hosts<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}

/// Finds a provider by a domain at or below one of its own.
#[derive(Debug)]
pub(crate) struct Domains(HashMap<String, usize>);

impl Domains {
    /// The domains of `providers`, which are told apart by their place in the list.
    pub(crate) fn of(providers: &[Provider]) -> Self {
        let pairs = providers.iter().enumerate().flat_map(|(index, provider)| {
            let name = move |domain: &model::Domain| (domain.as_str().to_owned(), index);
            provider.domains.iter().map(name)
        });
        Self(pairs.collect())
    }

    /// The place of the provider that runs `domain`, in lower case. Names with a leading underscore are no mail domains.
    pub(crate) fn find(&self, domain: &str) -> Option<usize> {
        let mut rest = domain;
        loop {
            if let Some(index) = self.0.get(rest) {
                return Some(*index);
            }
            let (label, parent) = rest.split_once('.')?;
            if label.is_empty() || label.starts_with('_') {
                return None;
            }
            rest = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RawConfig};

    #[test]
    fn everything_below_a_domain_is_its_providers() {
        let config = Config::try_from(RawConfig::default()).unwrap();
        let domains = Domains::of(&config.providers);
        assert_eq!(domains.find("gmail.example"), Some(0));
        assert_eq!(domains.find("d17.gmail.example"), Some(0));
        assert_eq!(domains.find("ymail.example"), Some(1));
        for nobodys in [
            "example",
            "notgmail.example",
            "_mta-sts.gmail.example",
            ".gmail.example",
            "",
        ] {
            assert_eq!(domains.find(nobodys), None, "{nobodys}");
        }
    }
}
