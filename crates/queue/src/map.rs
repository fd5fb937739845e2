//! Which lane a job waits in: the same answer in every process that has the same settings.
//!
//! Domains are shared out over the hashed lanes, and tenants over the overflow lanes. A domain whose provider has lanes of its
//! own goes to none of the hashed ones; as it may be all that the provider has, its jobs are shared out one by one (ADR 26).
//! All of it is rendezvous hashing: another lane moves as few as can be.
//!
//! Invariant: where a job waits follows from its domain and its id alone, so that whoever looks for it looks there.

use std::collections::HashMap;

use model::{Domain, EgressGroup, JobId, Tenant};
use sha2::{Digest as _, Sha256};

use crate::{Lane, OwnLanes};

/// Assigns jobs to lanes. Every process of an installation must use the same map.
#[derive(Debug, Clone)]
pub struct LaneMap {
    hashed: Vec<Lane>,
    overflow: Vec<Lane>,
    /// The lanes of each provider that has any.
    own: Vec<Vec<Lane>>,
    /// Which of them are a domain's.
    owners: HashMap<Domain, usize>,
}

impl LaneMap {
    /// `hashed` lanes, at least one, that share the domains of `group` by hash, half as many overflow lanes, and those that
    /// big providers have for themselves.
    pub fn new(group: &EgressGroup, hashed: u32, own: &[OwnLanes]) -> Self {
        let hashed = hashed.max(1);
        let mut map = Self {
            hashed: (0..hashed)
                .map(|number| Lane::hashed(group, number))
                .collect(),
            overflow: (0..hashed.div_ceil(2))
                .map(|number| Lane::overflow(group, number))
                .collect(),
            own: Vec::new(),
            owners: HashMap::new(),
        };
        for provider in own {
            map.give(group, provider);
        }
        map
    }

    fn give(&mut self, group: &EgressGroup, provider: &OwnLanes) {
        let Some(owner) = provider.domains.first() else {
            return;
        };
        let lane = |number| Lane::own(group, &provider.name, number, owner);
        let domains = provider.domains.iter().cloned();
        self.owners
            .extend(domains.map(|domain| (domain, self.own.len())));
        self.own
            .push((0..provider.lanes.max(1)).map(lane).collect());
    }

    /// The lane of a job: one of those that its domain's provider has for itself, or its domain's.
    pub fn lane(&self, to: &Domain, job: JobId) -> &Lane {
        match self.own_lanes(to) {
            Some(lanes) => heaviest(lanes, &job.to_string()),
            None => heaviest(&self.hashed, to.as_str()),
        }
    }

    /// Where a job may wait: in its lane, in those that it had when its provider had fewer, and in its domain's, from before
    /// the provider had any. In this order.
    pub(crate) fn places(&self, to: &Domain, job: JobId) -> Vec<&Lane> {
        let own = self.own_lanes(to).unwrap_or_default();
        let mut places = claimants(own, &job.to_string());
        places.push(heaviest(&self.hashed, to.as_str()));
        places
    }

    fn own_lanes(&self, to: &Domain) -> Option<&[Lane]> {
        let owner = self.owners.get(to)?;
        self.own.get(*owner).map(Vec::as_slice)
    }

    /// The lane for jobs of `tenant` that would stand in front of other tenants' in their own.
    pub fn overflow(&self, tenant: &Tenant) -> &Lane {
        heaviest(&self.overflow, tenant.as_str())
    }

    /// Every lane, of any kind; those of one provider follow one another.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let own = self.own.iter().flatten();
        self.hashed.iter().chain(&self.overflow).chain(own)
    }
}

/// The lane that claims `key` most.
fn heaviest<'a>(lanes: &'a [Lane], key: &str) -> &'a Lane {
    let weight = |lane: &&Lane| weight(lane.key(), key);
    // There is at least one, so there is a heaviest.
    lanes.iter().max_by_key(weight).unwrap_or(&lanes[0])
}

/// The lane that claims `key` most, behind it the one that did when there were fewer lanes, and so on.
fn claimants<'a>(lanes: &'a [Lane], key: &str) -> Vec<&'a Lane> {
    let (mut claimants, mut most) = (Vec::new(), None);
    for lane in lanes {
        let weight = weight(lane.key(), key);
        if most.is_none_or(|most| weight > most) {
            most = Some(weight);
            claimants.insert(0, lane);
        }
    }
    claimants
}

/// How strongly `claimant` claims `key`: the same in every build and on every machine (rendezvous hashing).
pub(crate) fn weight(claimant: &str, key: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(claimant)
        .chain_update(b"/")
        .chain_update(key)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn domain(number: u32) -> Domain {
        format!("d{number}.example").parse().unwrap()
    }

    /// Four hashed lanes, and `lanes` for the mail to gmail.com and googlemail.com.
    fn with_own(lanes: u32) -> LaneMap {
        let own = OwnLanes {
            name: "gmail".parse().unwrap(),
            domains: ["gmail.com", "googlemail.com"]
                .map(|name| name.parse().unwrap())
                .into(),
            lanes,
        };
        LaneMap::new(&EgressGroup::default(), 4, &[own])
    }

    fn gmail() -> Domain {
        "gmail.com".parse().unwrap()
    }

    #[test]
    fn domains_spread_over_the_lanes_and_few_move_when_one_is_added() {
        let (four, five) = (
            LaneMap::new(&EgressGroup::default(), 4, &[]),
            LaneMap::new(&EgressGroup::default(), 5, &[]),
        );
        let (mut sizes, mut moved): (HashMap<&Lane, u32>, u32) = (HashMap::new(), 0);
        for number in 0..2000 {
            let (domain, job) = (domain(number), JobId::fresh());
            *sizes.entry(four.lane(&domain, job)).or_default() += 1;
            moved += u32::from(four.lane(&domain, job) != five.lane(&domain, job));
        }
        assert!(
            sizes.len() == 4 && sizes.values().all(|size| (400..600).contains(size)),
            "{sizes:?}"
        );
        assert!((300..500).contains(&moved), "{moved}");
    }

    #[test]
    fn half_as_many_lanes_take_what_overflows() {
        let map = LaneMap::new(&EgressGroup::default(), 3, &[]);
        assert!(map.overflow(&"acme".parse().unwrap()).is_overflow());
        assert_eq!(map.lanes().filter(|lane| lane.is_overflow()).count(), 2);
        assert_eq!(map.lanes().count(), 5);
    }

    #[test]
    fn a_big_providers_jobs_spread_over_its_own_lanes_and_few_move_when_one_is_added() {
        let (four, five) = (with_own(4), with_own(5));
        let (mut sizes, mut moved): (HashMap<&Lane, u32>, u32) = (HashMap::new(), 0);
        for _ in 0..2000 {
            let job = JobId::fresh();
            let lane = four.lane(&gmail(), job);
            *sizes.entry(lane).or_default() += 1;
            moved += u32::from(lane != five.lane(&gmail(), job));
        }
        assert!(
            sizes.len() == 4 && sizes.values().all(|size| (400..600).contains(size)),
            "{sizes:?}"
        );
        assert!(sizes.keys().all(|lane| lane.owner() == Some(&gmail())));
        assert!((300..500).contains(&moved), "{moved}");
    }

    #[test]
    fn a_providers_domains_share_its_lanes_and_no_other_domain_does() {
        let (map, before) = (with_own(2), LaneMap::new(&EgressGroup::default(), 4, &[]));
        let job = JobId::fresh();
        let lane = map.lane(&"googlemail.com".parse().unwrap(), job);
        assert_eq!(lane, map.lane(&gmail(), job));
        for other in ["mail.gmail.com", "gmail.co", "d1.example"] {
            let other = other.parse().unwrap();
            assert_eq!(map.lane(&other, job), before.lane(&other, job));
        }
    }

    #[test]
    fn a_job_is_looked_for_wherever_its_lane_was_before() {
        let (now, then, at_first) = (
            with_own(5),
            with_own(2),
            LaneMap::new(&EgressGroup::default(), 4, &[]),
        );
        let mut has_moved = HashSet::new();
        for _ in 0..100 {
            let job = JobId::fresh();
            let places = now.places(&gmail(), job);
            assert_eq!(places.first(), Some(&now.lane(&gmail(), job)));
            assert!(places.contains(&then.lane(&gmail(), job)));
            assert_eq!(places.last(), Some(&at_first.lane(&gmail(), job)));
            has_moved.insert(now.lane(&gmail(), job) != then.lane(&gmail(), job));
        }
        assert_eq!(has_moved.len(), 2, "some jobs moved and some did not");
        let (other, job) = (domain(1), JobId::fresh());
        assert_eq!(now.places(&other, job), [now.lane(&other, job)]);
    }
}
