//! A line of jobs, and the streams and subjects it has.
//!
//! A lane is a share of the destinations; each has one stream for every class and stage. Domains are subjects and
//! never consumers (ADR 3). What a tenant has waiting above its share of a lane goes to an overflow lane, out of the way of
//! others (ADR 15). A big provider has lanes of its own (ADR 26).
//!
//! Invariant: no two lanes of an installation have the same key. Those of hashed and overflow lanes are a letter and a number,
//! those of own lanes a name without '-', a '-' and a number.

use std::fmt;

use model::{Class, Domain, EgressGroup, JobId};

use crate::LaneName;

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// A share of the domains.
    Hashed,
    /// Ready jobs of tenants that have more waiting than their share of another lane.
    Overflow,
    /// A share of the jobs for one provider, which this domain stands for.
    Own(Domain),
}

/// One line of jobs within an egress group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    group: EgressGroup,
    key: String,
    kind: Kind,
}

impl Lane {
    /// Number `number` of those that share the domains.
    pub(crate) fn hashed(group: &EgressGroup, number: u32) -> Self {
        Self::new(group, format!("h{number}"), Kind::Hashed)
    }

    /// Number `number` of those that take what is above a tenant's share.
    pub(crate) fn overflow(group: &EgressGroup, number: u32) -> Self {
        Self::new(group, format!("o{number}"), Kind::Overflow)
    }

    /// Number `number` of those that the provider of `owner` has for itself.
    pub(crate) fn own(group: &EgressGroup, name: &LaneName, number: u32, owner: &Domain) -> Self {
        Self::new(group, format!("{name}-{number}"), Kind::Own(owner.clone()))
    }

    fn new(group: &EgressGroup, key: String, kind: Kind) -> Self {
        Self {
            group: group.clone(),
            key,
            kind,
        }
    }

    /// Its name within the egress group: "h0", "o0" for an overflow lane, "gmail-0" for a provider's own.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it takes what is above a tenant's share.
    pub fn is_overflow(&self) -> bool {
        self.kind == Kind::Overflow
    }

    /// The domain that stands for the provider whose own lane this is; `None` for every other.
    pub fn owner(&self) -> Option<&Domain> {
        match &self.kind {
            Kind::Own(owner) => Some(owner),
            Kind::Hashed | Kind::Overflow => None,
        }
    }

    /// The stages it has streams for. A job that is deferred goes to the lane of its domain, wherever it came from.
    pub fn stages(&self) -> &'static [Stage] {
        match self.kind {
            Kind::Hashed | Kind::Own(_) => &Stage::ALL,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_names_its_streams_and_subjects_as_the_design_has_them() {
        let lane = Lane::hashed(&EgressGroup::default(), 0);
        assert_eq!(
            lane.stream(Class::Transactional, Stage::Ready),
            "T-default-h0"
        );
        assert_eq!(lane.stream(Class::Bulk, Stage::Deferred), "DB-default-h0");
        let domain = "d1.example".parse().unwrap();
        assert_eq!(
            lane.ready_subject(Class::Bulk, &domain),
            "q.b.default.h0.d1_example"
        );
        assert_eq!(lane.due_subject(Class::Transactional), "dr.t.default.h0");
    }

    #[test]
    fn an_own_lane_names_its_provider_and_has_streams_of_every_kind() {
        let (name, owner) = ("gmail".parse().unwrap(), "gmail.com".parse().unwrap());
        let lane = Lane::own(&EgressGroup::default(), &name, 1, &owner);
        assert_eq!(lane.owner(), Some(&owner));
        assert_eq!(lane.stages(), Stage::ALL);
        assert_eq!(
            lane.stream(Class::Bulk, Stage::Deferred),
            "DB-default-gmail-1"
        );
        assert_eq!(
            lane.ready_subject(Class::Transactional, &owner),
            "q.t.default.gmail-1.gmail_com"
        );
        assert_eq!(lane.due_subject(Class::Bulk), "dr.b.default.gmail-1");
    }

    #[test]
    fn overflow_lanes_hold_ready_jobs_alone() {
        let lane = Lane::overflow(&EgressGroup::default(), 0);
        assert!(lane.is_overflow() && lane.owner().is_none());
        assert_eq!((lane.key(), lane.stages()), ("o0", &[Stage::Ready][..]));
    }
}
