//! Which lane a job waits in: its own, unless its tenant has more waiting there than its share (ADR 15).
//!
//! A lane is a line. A campaign that is accepted faster than it can be sent would stand in it in front of everything that
//! comes later, for other domains and of other tenants too. So once a lane is long, what one tenant sends to one domain
//! beyond a share goes to an overflow lane. It is long when it holds more than leaves it in about a second (ADR 30).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{Class, Domain, Job, Tenant};
use queue::{Backlog, Backlogs, Lane, LaneMap};

/// A lane with so few ready jobs is short, however slowly they leave it.
const SHORTEST: f64 = 250.0;
/// And one with more than so many is not, however fast they do.
const LONGEST: f64 = 2000.0;
/// What one tenant may add to a long lane for one domain. While the lane is short that is forgotten, at its pace.
const SHARE: u64 = 1000;

/// Finds each job's lane; one for the whole service.
pub(crate) struct Shares {
    lanes: LaneMap,
    backlogs: Backlogs,
    lines: Mutex<HashMap<(String, Class), Line>>,
}

/// What this process knows of one class of a lane, be it hashed or a provider's own; at first nothing.
#[derive(Default)]
struct Line {
    /// What the broker said last.
    known: Option<Backlog>,
    /// Jobs added here since the broker was last asked.
    added: u64,
    /// Jobs that leave it in a second.
    pace: f64,
    /// Jobs added here by tenant and domain, and not forgotten.
    shares: HashMap<(Tenant, Domain), u64>,
}

impl Line {
    /// Takes in what the broker says of it, unless that is known.
    fn learn(&mut self, backlog: Backlog) {
        let before = self.known;
        if before.is_some_and(|before| before.at == backlog.at) {
            return;
        }
        self.known = Some(backlog);
        self.added = 0;
        let Some(before) = before else {
            return;
        };
        let seconds = backlog
            .at
            .saturating_duration_since(before.at)
            .as_secs_f64();
        // They leave in groups, and one of these may be late; and where none was there to leave, they can as fast as before.
        let left = backlog.left.saturating_sub(before.left) as f64;
        let least = if before.jobs > 0 { 0.5 } else { 1.0 };
        self.pace = (left / seconds).max(self.pace * least);
        if backlog.jobs as f64 <= self.short() {
            self.forget((self.short() * seconds) as u64);
        }
    }

    /// Forgets that so many jobs of each tenant and domain were added.
    fn forget(&mut self, jobs: u64) {
        self.shares.retain(|_, share| {
            *share = share.saturating_sub(jobs);
            *share > 0
        });
    }

    /// How many jobs it may hold and be short: what leaves it in a second delays nobody for long.
    fn short(&self) -> f64 {
        self.pace.clamp(SHORTEST, LONGEST)
    }

    /// Counts a job in, unless the line is long and its tenant has its share of it.
    fn admits(&mut self, tenant: &Tenant, to: &Domain) -> bool {
        let jobs = self.known.map_or(0, |backlog| backlog.jobs) + self.added;
        let is_long = jobs as f64 > self.short();
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
        let backlog = self.backlogs.of(lane, job.class);
        let mut lines = self.lock();
        let line = lines.entry((lane.key().to_owned(), job.class)).or_default();
        if let Some(backlog) = backlog {
            line.learn(backlog);
        }
        if line.admits(&job.tenant, to) {
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
    use std::time::{Duration, Instant};

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
        let many = chosen(&shares, "many", "gmail.example", 3 * SHARE);
        let expected = [
            ("gmail-0".to_owned(), SHARE),
            ("gmail-1".to_owned(), SHARE),
            ("o0".to_owned(), SHARE),
        ];
        assert_eq!(many, expected.into());
        let few = chosen(&shares, "few", "gmail.example", 100);
        assert!(!few.contains_key("o0"), "{few:?}");
        let elsewhere = chosen(&shares, "many", "a.example", 100);
        assert_eq!(elsewhere, [("h0".to_owned(), 100)].into());
    }

    fn admitted(line: &mut Line, tenant: &str, domain: &str, count: u64) -> u64 {
        let (tenant, domain) = (tenant.parse().unwrap(), domain.parse().unwrap());
        (0..count).filter(|_| line.admits(&tenant, &domain)).count() as u64
    }

    /// A line whose broker is asked twice a second.
    struct Asked {
        line: Line,
        last: Backlog,
    }

    impl Asked {
        /// It was asked once, and the line was empty.
        fn new() -> Self {
            let (at, jobs, left) = (Instant::now(), 0, 0);
            let last = Backlog { at, jobs, left };
            let mut line = Line::default();
            line.learn(last);
            Self { line, last }
        }

        /// Half a second later so many wait, and so many more have left.
        fn learn(&mut self, jobs: u64, left: u64) {
            self.last = Backlog {
                at: self.last.at + Duration::from_millis(500),
                jobs,
                left: self.last.left + left,
            };
            self.line.learn(self.last);
        }
    }

    #[test]
    fn a_line_that_moves_admits_everything() {
        let mut asked = Asked::new();
        asked.learn(900, 0);
        for _ in 0..100 {
            asked.learn(900, 1000);
            assert_eq!(admitted(&mut asked.line, "acme", "a.example", 1000), 1000);
        }
    }

    #[test]
    fn a_campaign_has_a_share_of_a_long_line_and_others_have_theirs() {
        let mut asked = Asked::new();
        let many = admitted(&mut asked.line, "many", "a.example", 1_000_000);
        assert_eq!(many, SHARE);
        asked.learn(5000, 0);
        assert_eq!(admitted(&mut asked.line, "many", "a.example", 100), 0);
        assert_eq!(admitted(&mut asked.line, "few", "a.example", 100), 100);
        assert_eq!(admitted(&mut asked.line, "many", "b.example", 100), 100);
    }

    #[test]
    fn a_campaign_adds_to_a_line_no_more_than_leaves_it() {
        let mut asked = Asked::new();
        let mut jobs = admitted(&mut asked.line, "many", "a.example", 2500);
        for second in 0..100 {
            let left = jobs.min(75);
            jobs -= left;
            asked.learn(jobs, left);
            jobs += admitted(&mut asked.line, "many", "a.example", 2500);
            let most = if second < 20 { SHARE } else { 400 };
            assert!(jobs <= most, "{jobs} after {second} times");
        }
    }

    #[test]
    fn a_line_is_long_by_the_pace_at_which_it_moves() {
        let mut asked = Asked::new();
        asked.learn(1000, 0);
        for (left, short) in [
            (50, 250.0),
            (200, 400.0),
            (400, 800.0),
            (0, 400.0),
            (9000, 2000.0),
        ] {
            asked.learn(1000, left);
            assert_eq!(asked.line.short(), short, "{left} have left");
        }
        asked.learn(0, 1000);
        for _ in 0..10 {
            asked.learn(0, 0);
        }
        assert_eq!(asked.line.short(), 2000.0, "none was there to leave");
    }
}
