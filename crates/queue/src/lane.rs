//! Which stream a job stands in.
//!
//! A lane is a share of the destinations; each has one stream for every class and stage. Domains are subjects and
//! never consumers (ADR 3). What a tenant has waiting above its share of a lane goes to an overflow lane, out of the way of
//! others (ADR 15).

use std::fmt;

use model::{Class, Domain, EgressGroup, JobId, Tenant};
use sha2::{Digest, Sha256};

/// Whether a job is ready to be sent or waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// In a `T` or `B` stream.
    Ready,
    /// In a `DT` or `DB` stream, as a schedule or due.
    Deferred,
}

impl Stage {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ready, Self::Deferred];
}

/// What a lane is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// A share of the domains.
    Hashed,
    /// Ready jobs of tenants that have more waiting than their share of a hashed lane.
    Overflow,
}

impl Kind {
    /// What the lane's key begins with.
    fn letter(self) -> char {
        match self {
            Self::Hashed => 'h',
            Self::Overflow => 'o',
        }
    }
}

/// One line of jobs within an egress group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    group: EgressGroup,
    key: String,
    kind: Kind,
}

impl Lane {
    /// Its name within the egress group: "h0", or "o0" for an overflow lane.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it takes what is above a tenant's share.
    pub fn is_overflow(&self) -> bool {
        self.kind == Kind::Overflow
    }

    /// The stages it has streams for. A job that is deferred goes to the lane of its domain, wherever it came from.
    pub fn stages(&self) -> &'static [Stage] {
        match self.kind {
            Kind::Hashed => &Stage::ALL,
            Kind::Overflow => &[Stage::Ready],
        }
    }

    /// The stream that holds this lane's jobs of `class` in `stage`: "T-default-h0".
    pub fn stream(&self, class: Class, stage: Stage) -> String {
        let kind = match (stage, class) {
            (Stage::Ready, Class::Transactional) => "T",
            (Stage::Ready, Class::Bulk) => "B",
            (Stage::Deferred, Class::Transactional) => "DT",
            (Stage::Deferred, Class::Bulk) => "DB",
        };
        format!("{kind}-{}-{}", self.group, self.key)
    }

    /// What the jobs in that stream are under. Schedules are not.
    pub(crate) fn jobs(&self, class: Class, stage: Stage) -> String {
        match stage {
            Stage::Ready => format!("q.{}.>", self.scope(class)),
            Stage::Deferred => self.due_subject(class),
        }
    }

    /// The subjects of that stream.
    pub(crate) fn subjects(&self, class: Class, stage: Stage) -> Vec<String> {
        match stage {
            Stage::Ready => vec![self.jobs(class, stage)],
            Stage::Deferred => vec![
                format!("ds.{}.>", self.scope(class)),
                self.jobs(class, stage),
            ],
        }
    }

    /// The subject of a ready job: `q.<class>.<group>.<lane>.<domain>`.
    pub(crate) fn ready_subject(&self, class: Class, domain: &Domain) -> String {
        format!("q.{}.{}", self.scope(class), domain.token())
    }

    /// The subject of a job's schedule: `ds.<class>.<group>.<lane>.<job>`.
    pub(crate) fn schedule_subject(&self, class: Class, job: JobId) -> String {
        format!("ds.{}.{job}", self.scope(class))
    }

    /// The subject of the schedule of a bundle: `ds.<class>.<group>.<lane>.bundle.<bundle>`.
    pub(crate) fn bundle_subject(&self, class: Class, bundle: &str) -> String {
        format!("ds.{}.bundle.{bundle}", self.scope(class))
    }

    /// The subject of the list of a bundle's jobs: `ds.<class>.<group>.<lane>.list.<bundle>`. `*` for all.
    pub(crate) fn list_subject(&self, class: Class, bundle: &str) -> String {
        format!("ds.{}.list.{bundle}", self.scope(class))
    }

    /// The subject on which schedules of this lane become due: `dr.<class>.<group>.<lane>`.
    pub(crate) fn due_subject(&self, class: Class) -> String {
        format!("dr.{}", self.scope(class))
    }

    fn scope(&self, class: Class) -> String {
        let class = match class {
            Class::Transactional => 't',
            Class::Bulk => 'b',
        };
        format!("{class}.{}.{}", self.group, self.key)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.group, self.key)
    }
}

/// Assigns jobs to lanes. Every process of an installation must use the same map.
#[derive(Debug, Clone)]
pub struct LaneMap {
    hashed: Vec<Lane>,
    overflow: Vec<Lane>,
}

impl LaneMap {
    /// `count` lanes, at least one, that share the domains of `group` by hash, and half as many overflow lanes.
    pub fn hashed(group: &EgressGroup, count: u32) -> Self {
        let count = count.max(1);
        let lanes = |kind: Kind, count: u32| {
            let lane = |number| Lane {
                group: group.clone(),
                key: format!("{}{number}", kind.letter()),
                kind,
            };
            (0..count).map(lane).collect()
        };
        Self {
            hashed: lanes(Kind::Hashed, count),
            overflow: lanes(Kind::Overflow, count.div_ceil(2)),
        }
    }

    /// The lane of `domain`, by rendezvous hashing: a changed number of lanes moves as few domains as can be.
    pub fn lane(&self, domain: &Domain) -> &Lane {
        heaviest(&self.hashed, domain.as_str())
    }

    /// The lane for jobs of `tenant` that would stand in front of other tenants' in the lane of their domain.
    pub fn overflow(&self, tenant: &Tenant) -> &Lane {
        heaviest(&self.overflow, tenant.as_str())
    }

    /// Every lane, of either kind.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.hashed.iter().chain(&self.overflow)
    }
}

/// The lane that claims `key` most.
fn heaviest<'a>(lanes: &'a [Lane], key: &str) -> &'a Lane {
    let weight = |lane: &&Lane| weight(&lane.key, key);
    // There is at least one, so there is a heaviest.
    lanes.iter().max_by_key(weight).unwrap_or(&lanes[0])
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
    use std::collections::HashMap;

    use super::*;

    fn domain(number: u32) -> Domain {
        format!("d{number}.example").parse().unwrap()
    }

    #[test]
    fn a_lane_names_its_streams_and_subjects_as_the_design_has_them() {
        let map = LaneMap::hashed(&EgressGroup::default(), 1);
        let lane = map.lane(&domain(1));
        assert_eq!(
            lane.stream(Class::Transactional, Stage::Ready),
            "T-default-h0"
        );
        assert_eq!(lane.stream(Class::Bulk, Stage::Deferred), "DB-default-h0");
        assert_eq!(
            lane.ready_subject(Class::Bulk, &domain(1)),
            "q.b.default.h0.d1_example"
        );
        assert_eq!(lane.due_subject(Class::Transactional), "dr.t.default.h0");
    }

    #[test]
    fn overflow_lanes_hold_ready_jobs_alone() {
        let map = LaneMap::hashed(&EgressGroup::default(), 2);
        let lane = map.overflow(&"acme".parse().unwrap());
        assert!(lane.is_overflow() && lane.key().starts_with('o'));
        assert_eq!(lane.stages(), [Stage::Ready]);
        assert_eq!(map.lanes().count(), 3);
    }

    #[test]
    fn domains_spread_over_the_lanes_and_few_move_when_one_is_added() {
        let (four, five) = (
            LaneMap::hashed(&EgressGroup::default(), 4),
            LaneMap::hashed(&EgressGroup::default(), 5),
        );
        let mut sizes: HashMap<&Lane, u32> = HashMap::new();
        let mut moved = 0;
        for number in 0..2000 {
            let domain = domain(number);
            *sizes.entry(four.lane(&domain)).or_default() += 1;
            moved += u32::from(four.lane(&domain) != five.lane(&domain));
        }
        assert!(
            sizes.len() == 4 && sizes.values().all(|size| (400..600).contains(size)),
            "{sizes:?}"
        );
        assert!((300..500).contains(&moved), "{moved}");
    }
}
