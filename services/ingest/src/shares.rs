//! Which lane a job waits in: its own, unless its tenant has more waiting there than its share (ADR 15).
//!
//! A lane is a line. A campaign that is accepted faster than it can be sent would stand in it in front of everything that
//! comes later, for other domains and of other tenants too. So once a lane is long, what one tenant sends to one domain
//! beyond a share goes to an overflow lane, until the lane is short again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{Class, Domain, Job, Tenant};
use queue::{Backlogs, Lane, LaneMap};

/// A lane with no more ready jobs than this delays nobody by more than a second.
const SHORT: u64 = 2000;
/// What one tenant may add to a lane for one domain since the lane was last short.
const SHARE: u64 = 1000;

/// Finds each job's lane; one for the whole service.
pub(crate) struct Shares {
    lanes: LaneMap,
    backlogs: Backlogs,
    lines: Mutex<HashMap<(String, Class), Line>>,
}

/// What this process knows of one class of a lane, be it hashed or a provider's own.
#[derive(Default)]
struct Line {
    reading: u64,
    /// Jobs added here since the broker was last asked.
    added: u64,
    /// Jobs added here by tenant and domain since the lane was last short.
    shares: HashMap<(Tenant, Domain), u64>,
}

impl Line {
    /// Takes in what the broker says it holds, at its `reading`-th answer.
    fn learn(&mut self, reading: u64, backlog: u64) {
        if self.reading == reading {
            return;
        }
        self.reading = reading;
        self.added = 0;
        if backlog <= SHORT {
            self.shares.clear();
        }
    }

    /// Counts a job in, unless it is above its tenant's share of a line that is `backlog` long and what was added since.
    fn admits(&mut self, backlog: u64, tenant: &Tenant, to: &Domain) -> bool {
        let is_long = backlog + self.added > SHORT;
        let share = self.shares.entry((tenant.clone(), to.clone())).or_default();
        if is_long && *share >= SHARE {
            return false;
        }
        *share += 1;
        self.added += 1;
        true
    }
}

impl Shares {
    pub(crate) fn new(lanes: LaneMap, backlogs: Backlogs) -> Self {
        Self {
            lanes,
            backlogs,
            lines: Mutex::default(),
        }
    }

    /// The lane that `job` is to wait in.
    pub(crate) fn lane(&self, job: &Job) -> &Lane {
        let to = job.destination();
        let lane = self.lanes.lane(to, job.id);
        let (reading, backlog) = self.backlogs.of(lane, job.class);
        let mut lines = self.lock();
        let line = lines.entry((lane.key().to_owned(), job.class)).or_default();
        line.learn(reading, backlog);
        if line.admits(backlog, &job.tenant, to) {
            lane
        } else {
            self.overflow(job)
        }
    }

    /// The lane for a job that its own has no room for.
    pub(crate) fn overflow(&self, job: &Job) -> &Lane {
        self.lanes.overflow(&job.tenant)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Class), Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use model::{Body, Dsn, EgressGroup, JobId, Labels, MessageId, Packing, Route, Timestamp};
    use queue::OwnLanes;

    use super::*;

    /// A bulk message of `tenant` to `domain`.
    fn job(tenant: &str, domain: &str) -> Job {
        Job {
            id: JobId::fresh(),
            message_id: MessageId::fresh(),
            tenant: tenant.parse().unwrap(),
            class: Class::Bulk,
            egress_group: EgressGroup::default(),
            sender: None,
            recipient: format!("ann@{domain}").parse().unwrap(),
            recipient_key: Bytes::new(),
            attempt: 0,
            accepted_at: Timestamp::UNIX_EPOCH,
            send_at: None,
            expires_at: Timestamp::UNIX_EPOCH,
            labels: Labels::default(),
            engagement: 0,
            pool: String::new(),
            route: Route::Mx,
            dsn: Dsn::default(),
            require_tls: false,
            traceparent: String::new(),
            checksum: [0; 16],
            recipient_header: Bytes::new(),
            body_size: 0,
            packing: Packing::Plain,
            body: Body::Inline(Bytes::new()),
        }
    }

    /// In how many of `count` cases each lane was chosen.
    fn chosen(shares: &Shares, tenant: &str, domain: &str, count: u64) -> BTreeMap<String, u64> {
        let mut chosen = BTreeMap::new();
        for _ in 0..count {
            let lane = shares.lane(&job(tenant, domain)).key().to_owned();
            *chosen.entry(lane).or_default() += 1;
        }
        chosen
    }

    #[test]
    fn each_of_a_big_providers_own_lanes_is_long_by_itself_and_overflows() {
        let own = OwnLanes {
            name: "gmail".parse().unwrap(),
            domains: vec!["gmail.example".parse().unwrap()],
            lanes: 2,
        };
        let lanes = LaneMap::new(&EgressGroup::default(), 1, &[own]);
        let shares = Shares::new(lanes, Backlogs::default());
        let many = chosen(&shares, "many", "gmail.example", 3 * SHORT);
        let expected = [
            ("gmail-0".to_owned(), SHORT + 1),
            ("gmail-1".to_owned(), SHORT + 1),
            ("o0".to_owned(), SHORT - 2),
        ];
        assert_eq!(many, expected.into());
        let few = chosen(&shares, "few", "gmail.example", 100);
        assert!(!few.contains_key("o0"), "{few:?}");
        let elsewhere = chosen(&shares, "many", "a.example", 100);
        assert_eq!(elsewhere, [("h0".to_owned(), 100)].into());
    }

    fn admitted(line: &mut Line, backlog: u64, tenant: &str, domain: &str, count: u64) -> u64 {
        let (tenant, domain) = (tenant.parse().unwrap(), domain.parse().unwrap());
        (0..count)
            .filter(|_| line.admits(backlog, &tenant, &domain))
            .count() as u64
    }

    #[test]
    fn a_short_line_admits_everything_its_broker_keeps_up_with() {
        let mut line = Line::default();
        for reading in 1..100 {
            line.learn(reading, 100);
            assert_eq!(admitted(&mut line, 100, "acme", "a.example", 1500), 1500);
        }
    }

    #[test]
    fn a_campaign_has_a_share_of_a_long_line_and_others_have_theirs() {
        let mut line = Line::default();
        line.learn(1, 0);
        assert_eq!(
            admitted(&mut line, 0, "many", "a.example", 1_000_000),
            SHORT + 1
        );
        line.learn(2, 5000);
        assert_eq!(admitted(&mut line, 5000, "many", "a.example", 100), 0);
        assert_eq!(admitted(&mut line, 5000, "few", "a.example", 100), 100);
        assert_eq!(admitted(&mut line, 5000, "many", "b.example", 100), 100);
        line.learn(3, SHORT);
        assert_eq!(admitted(&mut line, SHORT, "many", "a.example", 100), 100);
    }
}
