//! Which stream a job stands in.
//!
//! A lane is a share of the destinations; each has one stream for every class and stage. Domains are subjects and
//! never consumers (ADR 3).

use std::fmt;

use model::{Class, Domain, EgressGroup, JobId};
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

/// A share of the destinations within one egress group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    group: EgressGroup,
    key: String,
}

impl Lane {
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

    /// The subjects of that stream.
    pub(crate) fn subjects(&self, class: Class, stage: Stage) -> Vec<String> {
        match stage {
            Stage::Ready => vec![format!("q.{}.>", self.scope(class))],
            Stage::Deferred => vec![
                format!("ds.{}.>", self.scope(class)),
                self.due_subject(class),
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

/// Assigns destinations to lanes. Every process of an installation must use the same map.
#[derive(Debug, Clone)]
pub struct LaneMap {
    hashed: Vec<Lane>,
}

impl LaneMap {
    /// `count` lanes, at least one, that share the domains of `group` by hash.
    pub fn hashed(group: &EgressGroup, count: u32) -> Self {
        let lane = |number| Lane {
            group: group.clone(),
            key: format!("h{number}"),
        };
        Self {
            hashed: (0..count.max(1)).map(lane).collect(),
        }
    }

    /// The lane of `domain`, by rendezvous hashing: a changed number of lanes moves as few domains as can be.
    pub fn lane(&self, domain: &Domain) -> &Lane {
        let weight = |lane: &&Lane| weight(&lane.key, domain);
        // `hashed` made at least one, so there is a greatest.
        self.hashed
            .iter()
            .max_by_key(weight)
            .unwrap_or(&self.hashed[0])
    }

    /// Every lane.
    pub fn lanes(&self) -> &[Lane] {
        &self.hashed
    }
}

/// How strongly a lane claims a domain: the same in every build and on every machine.
fn weight(key: &str, domain: &Domain) -> [u8; 32] {
    Sha256::new()
        .chain_update(key)
        .chain_update(b"/")
        .chain_update(domain.as_str())
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
