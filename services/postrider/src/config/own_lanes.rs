//! The tables `[[nats.own_lanes]]`: which providers have lanes of their own (ADR 26).

use std::collections::HashSet;

use model::Domain;
use queue::{LaneName, OwnLanes};
use runtime::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most lanes of one provider: what one lane carries is far above what a provider takes from one source.
const MOST_OF_ONE: u32 = 16;
/// The most of all: each has four streams, and every stream its part of a worker's window.
const MOST: u32 = 64;

/// A provider with lanes of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOwnLanes {
    /// What its lanes are called, as in the names of their streams: lower-case letters and digits, the first a letter.
    pub name: String,
    /// The domains whose mail goes through them, without those below them. The first stands for the provider: a domain whose mail
    /// exchangers turn out to be another provider's is treated as it would be in any other lane.
    pub domains: Vec<String>,
    /// How many lanes share that mail, message by message: as many as workers are to send it.
    #[serde(default = "one")]
    pub lanes: u32,
}

fn one() -> u32 {
    1
}

/// The providers that `raw` describes; faults are noted.
pub(super) fn check(faults: &mut Faults, raw: &[RawOwnLanes]) -> Vec<OwnLanes> {
    let (mut names, mut known) = (HashSet::new(), HashSet::new());
    let mut checked = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = |name| format!("own_lanes[{index}].{name}");
        let name: Option<LaneName> = faults.parse(&key("name"), &raw.name);
        if name.clone().is_some_and(|name| !names.insert(name)) {
            let problem = format!("{} is listed twice; list each provider once", raw.name);
            faults.add(&key("name"), problem);
        }
        let domains = check_domains(faults, &key("domains"), &raw.domains, &mut known);
        if !(1..=MOST_OF_ONE).contains(&raw.lanes) {
            faults.add(&key("lanes"), format!("must be from 1 to {MOST_OF_ONE}"));
        }
        checked.extend(name.map(|name| OwnLanes {
            name,
            domains,
            lanes: raw.lanes,
        }));
    }
    let together: u64 = raw.iter().map(|raw| u64::from(raw.lanes)).sum();
    if together > u64::from(MOST) {
        let problem = format!("have {together} lanes together; {MOST} is the most");
        faults.add("own_lanes", problem);
    }
    checked
}

/// The domains of one provider, none of which is `known` to be another's.
fn check_domains(
    faults: &mut Faults,
    key: &str,
    raw: &[String],
    known: &mut HashSet<Domain>,
) -> Vec<Domain> {
    if raw.is_empty() {
        faults.add(
            key,
            "is empty; list the domains whose mail goes through these lanes",
        );
    }
    let mut domains = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let Some(domain) = faults.parse::<Domain>(&key, raw) else {
            continue;
        };
        if known.insert(domain.clone()) {
            domains.push(domain);
        } else {
            let problem = format!("{raw} is listed twice; a domain has the lanes of one provider");
            faults.add(&key, problem);
        }
    }
    domains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Nats, RawNats};

    fn own(name: &str, domains: &[&str], lanes: u32) -> RawOwnLanes {
        RawOwnLanes {
            name: name.into(),
            domains: domains.iter().map(ToString::to_string).collect(),
            lanes,
        }
    }

    /// What is wrong with these, a line each.
    fn faults(own_lanes: &[RawOwnLanes]) -> Vec<String> {
        let raw = RawNats {
            own_lanes: own_lanes.to_vec(),
            ..RawNats::default()
        };
        let refused = Nats::try_from(raw).unwrap_err().to_string();
        refused.lines().map(String::from).collect()
    }

    #[test]
    fn a_table_names_domains_and_has_one_lane_where_it_does_not_say() {
        let text = "name = \"gmail\"\ndomains = [\"Gmail.com\", \"googlemail.com\"]\n";
        let raw = RawNats {
            own_lanes: vec![toml::from_str(text).unwrap()],
            ..RawNats::default()
        };
        let settings = Nats::try_from(raw).unwrap().settings(Default::default());
        let gmail = OwnLanes {
            name: "gmail".parse().unwrap(),
            domains: ["gmail.com", "googlemail.com"]
                .map(|name| name.parse().unwrap())
                .into(),
            lanes: 1,
        };
        assert_eq!(settings.own_lanes, [gmail]);
    }

    #[test]
    fn every_fault_is_reported_with_its_key_and_what_would_be_right() {
        let found = faults(&[
            own("Gmail", &["gmail.com"], 1),
            own("h0", &["gmx.example"], 1),
            own("web", &["web.example", "no domain"], 0),
            own("web", &[], 17),
            own("yahoo", &["yahoo.example", "GMAIL.com", "yahoo.example"], 2),
        ]);
        let expected = [
            ("nats.own_lanes[0].name: ", "of a-z and 0-9"),
            ("nats.own_lanes[1].name: ", "take another name"),
            ("nats.own_lanes[2].domains[1]: ", ""),
            ("nats.own_lanes[2].lanes: ", "from 1 to 16"),
            ("nats.own_lanes[3].name: ", "list each provider once"),
            ("nats.own_lanes[3].domains: ", "list the domains"),
            ("nats.own_lanes[3].lanes: ", "from 1 to 16"),
            ("nats.own_lanes[4].domains[1]: ", "listed twice"),
            ("nats.own_lanes[4].domains[2]: ", "listed twice"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, (key, remedy)) in found.iter().zip(expected) {
            assert!(found.starts_with(key) && found.contains(remedy), "{found}");
        }
    }

    #[test]
    fn providers_have_so_many_lanes_together_and_no_more() {
        let many: Vec<RawOwnLanes> = (0..5)
            .map(|number| own(&format!("p{number}"), &[&format!("p{number}.example")], 13))
            .collect();
        assert_eq!(
            faults(&many),
            ["nats.own_lanes: have 65 lanes together; 64 is the most"]
        );
    }
}
