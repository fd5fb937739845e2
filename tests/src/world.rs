//! The world the tests send to, and settings that make hours pass in seconds.

use delivery::config::RawLimits;
use mailsim::config::{Policy, RawDownWindow, RawMx, RawProvider, Tls};
use postrider::config::{RawConfig, RawOwnLanes};

/// Providers as the demo has them, and one that takes no mail at all.
pub fn world() -> RawConfig {
    let mut config = RawConfig::default();
    config.nats.ack_wait = "10s".into();
    config.delivery.retry_delays = ["2s", "3s", "4s"].map(String::from).into();
    config.delivery.ehlo_name = "mail.postrider.example".into();
    config.mailsim.greylist = "1s".into();
    config.mailsim.providers = vec![
        provider("gmail"),
        RawProvider {
            rate_limit: Some("60/s".into()),
            ..provider("yahoo")
        },
        RawProvider {
            greylist: Some("1s".into()),
            ..provider("outlook")
        },
        RawProvider {
            latency: "20ms".into(),
            ..provider("slow")
        },
        RawProvider {
            policy: Policy::Reject,
            ..provider("rejects")
        },
        RawProvider {
            down: vec![RawDownWindow {
                from: "0s".into(),
                until: "10s".into(),
            }],
            ..provider("down")
        },
        RawProvider {
            mx: RawMx::Null,
            ..provider("nullmx")
        },
    ];
    config
}

/// A provider with no manners of its own: it takes whatever comes for `<name>.example`.
pub fn provider(name: &str) -> RawProvider {
    RawProvider {
        name: name.into(),
        domains: vec![format!("{name}.example")],
        ..RawProvider::default()
    }
}

/// What our side is told of it: that it takes `rate` messages a second.
pub fn limited(name: &str, rate: u32) -> delivery::config::RawProvider {
    delivery::config::RawProvider {
        name: name.into(),
        mx: vec![format!(".{name}.example")],
        limits: RawLimits {
            rate: format!("{rate}/s"),
            ..RawLimits::default()
        },
        ..delivery::config::RawProvider::default()
    }
}

/// The same with that certificate and these manners, separated by "; ".
pub fn odd_provider(name: &str, tls: Tls, manners: &str) -> RawProvider {
    let manners = manners.split("; ").filter(|manner| !manner.is_empty());
    RawProvider {
        tls,
        manners: manners.map(str::to_owned).collect(),
        ..provider(name)
    }
}

/// What all services are told of a provider with `lanes` lanes of its own.
pub fn own_lanes(name: &str, domains: &[&str], lanes: u32) -> RawOwnLanes {
    RawOwnLanes {
        name: name.into(),
        domains: domains.iter().map(ToString::to_string).collect(),
        lanes,
    }
}
