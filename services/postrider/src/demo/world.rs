//! The world of the demo: six providers with different manners, and settings that make hours pass in seconds.

use mailsim::config::{Policy, RawDownWindow, RawProvider};

use crate::config::RawConfig;

/// Who sends.
pub(crate) const TENANTS: [&str; 2] = ["acme", "globex"];

/// A provider of the demo: where its mail goes, its share of all of it, and what it is like.
pub(crate) struct Neighbour {
    pub(crate) domain: &'static str,
    pub(crate) percent: usize,
    pub(crate) manners: &'static str,
}

/// Shares add up to 100.
pub(crate) const NEIGHBOURS: [Neighbour; 6] = [
    Neighbour {
        domain: "gmail.example",
        percent: 45,
        manners: "accepts",
    },
    Neighbour {
        domain: "yahoo.example",
        percent: 15,
        manners: "limits the rate",
    },
    Neighbour {
        domain: "outlook.example",
        percent: 15,
        manners: "greylists",
    },
    Neighbour {
        domain: "slow.example",
        percent: 5,
        manners: "answers slowly",
    },
    Neighbour {
        domain: "rejects.example",
        percent: 10,
        manners: "rejects",
    },
    Neighbour {
        domain: "down.example",
        percent: 10,
        manners: "is down for 20 s",
    },
];

/// The configuration of every service.
pub(crate) fn world() -> RawConfig {
    let mut config = RawConfig::default();
    config.delivery.retry_delays = ["4s", "6s", "8s", "10s"].map(String::from).into();
    config.delivery.ehlo_name = "mail.postrider.example".into();
    config.mailsim.providers = vec![
        provider("gmail"),
        RawProvider {
            rate_limit: Some("40/s".into()),
            ..provider("yahoo")
        },
        RawProvider {
            greylist: Some("3s".into()),
            ..provider("outlook")
        },
        RawProvider {
            latency: "50ms".into(),
            ..provider("slow")
        },
        RawProvider {
            policy: Policy::Reject,
            ..provider("rejects")
        },
        RawProvider {
            down: vec![RawDownWindow {
                from: "0s".into(),
                until: "20s".into(),
            }],
            ..provider("down")
        },
    ];
    config
}

fn provider(name: &str) -> RawProvider {
    RawProvider {
        name: name.into(),
        domains: vec![format!("{name}.example")],
        ..RawProvider::default()
    }
}
