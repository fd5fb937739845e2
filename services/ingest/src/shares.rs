//! Which lane a job waits in: its own, unless its tenant has more waiting there than its share (ADR 15).
//!
//! A lane is a line. A campaign that is accepted faster than it can be sent would stand in it in front of everything that
//! comes later, for other domains and of other tenants too. So once a lane is long, what one tenant sends to one domain
//! beyond a share goes to an overflow lane. It is long when it holds more than leaves it in a second (ADR 30).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{Class, Domain, Job, Tenant};
use queue::{Backlog, Backlogs, Lane, LaneMap};
use tokio::time::Instant;

/// A lane is short with so few ready jobs however slowly they leave it, and long with more than so many.
const FEW: f64 = 250.0;
const MANY: f64 = 2000.0;
/// No lane is faster; one that is emptied at once is not, either.
const FASTEST: f64 = 10_000.0;
/// After so many seconds half of the pace is what was measured in them: jobs leave in groups, up to a second apart.
const HALF: f64 = 1.0;
/// After so many seconds in which few were there to leave half of the pace above [`FEW`] is forgotten: whoever comes next may
/// be slower.
const HALF_FORGOTTEN: f64 = 10.0;
/// For so many seconds behind the last answer it is known about how many jobs have left since.
const KNOWN: f64 = 1.0;
/// What one tenant may have in a long lane for one domain.
const SHARE: f64 = 500.0;

/// Finds each job's lane; one for the whole service.
pub(crate) struct Shares {
    lanes: LaneMap,
    backlogs: Backlogs,
    lines: Mutex<HashMap<(String, Class), Line>>,
}

/// What this process knows of one class of a lane, be it hashed or a provider's own.
struct Line {
    /// What the broker said last.
    known: Option<Backlog>,
    /// Jobs added here since then.
    added: f64,
    /// Jobs that leave it in a second.
    pace: f64,
    /// About how many that were added here are still there, by tenant and domain.
    shares: HashMap<(Tenant, Domain), f64>,
}

impl Line {
    /// One of which nothing is known.
    fn new() -> Self {
        Self {
            known: None,
            added: 0.0,
            pace: FEW,
            shares: HashMap::new(),
        }
    }

    /// Takes in what the broker says of it, unless something later is known.
    fn learn(&mut self, backlog: Backlog) {
        let before = self.known;
        if before.is_some_and(|before| before.at >= backlog.at) {
            return;
        }
        self.known = Some(backlog);
        self.added = 0.0;
        let Some(before) = before else {
            return;
        };
        let (jobs, left) = (
            backlog.jobs as f64,
            backlog.left.saturating_sub(before.left) as f64,
        );
        let seconds = backlog
            .at
            .saturating_duration_since(before.at)
            .as_secs_f64();
        let pace = (left / seconds).min(FASTEST);
        if pace > self.pace || before.jobs as f64 >= FEW {
            self.pace += (pace - self.pace) * (1.0 - 0.5_f64.powf(seconds / HALF));
        } else {
            // More could have left. That is known for a while.
            self.pace +=
                (FEW - self.pace).min(0.0) * (1.0 - 0.5_f64.powf(seconds / HALF_FORGOTTEN));
        }
        self.keep(jobs / (jobs + left).max(1.0));
    }

    /// That this part of what was there has stayed.
    fn keep(&mut self, part: f64) {
        self.shares.retain(|_, share| {
            *share *= part;
            *share >= 0.5
        });
    }

    /// Counts a job in, unless the line is long, and its tenant has its share of it. What leaves a line in a second delays nobody
    /// for long.
    fn admits(&mut self, tenant: &Tenant, to: &Domain, now: Instant) -> bool {
        let is_long = self.jobs(now) > self.pace.clamp(FEW, MANY);
        let share = self.shares.entry((tenant.clone(), to.clone())).or_default();
        if is_long && *share >= SHARE {
            return false;
        }
        *share += 1.0;
        self.added += 1.0;
        true
    }

    /// About how many jobs there are.
    fn jobs(&self, now: Instant) -> f64 {
        let Some(known) = self.known else {
            return self.added;
        };
        let seconds = now.saturating_duration_since(known.at).as_secs_f64();
        (known.jobs as f64 + self.added - self.pace * seconds.min(KNOWN)).max(0.0)
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
        let line = lines
            .entry((lane.key().to_owned(), job.class))
            .or_insert_with(Line::new);
        if let Some(backlog) = backlog {
            line.learn(backlog);
        }
        if line.admits(&job.tenant, to, Instant::now()) {
            lane
        } else {
            self.overflow(job)
        }
    }

    /// The lane that `job` is to wait in, however long it is.
    pub(crate) fn own_lane(&self, job: &Job) -> &Lane {
        self.lanes.lane(job.destination(), job.id)
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
    use std::time::Duration;

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
        let many = chosen(&shares, "many", "gmail.example", 5000);
        let room = SHARE as u64;
        let expected = [
            ("gmail-0".to_owned(), room),
            ("gmail-1".to_owned(), room),
            ("o0".to_owned(), 5000 - 2 * room),
        ];
        assert_eq!(many, expected.into());
        let few = chosen(&shares, "few", "gmail.example", 100);
        assert!(!few.contains_key("o0"), "{few:?}");
        let elsewhere = chosen(&shares, "many", "a.example", 100);
        assert_eq!(elsewhere, [("h0".to_owned(), 100)].into());
    }

    /// A line whose broker is asked twice a second.
    struct Asked {
        line: Line,
        last: Backlog,
        now: Instant,
    }

    impl Asked {
        /// It was asked once, and the line was empty.
        fn new() -> Self {
            let now = Instant::now();
            let last = Backlog {
                at: now,
                jobs: 0,
                left: 0,
            };
            let mut line = Line::new();
            line.learn(last);
            Self { line, last, now }
        }

        /// Half a second later so many wait, and so many more have left.
        fn learn(&mut self, jobs: u64, left: u64) {
            self.last = Backlog {
                at: self.last.at + Duration::from_millis(500),
                jobs,
                left: self.last.left + left,
            };
            self.now = self.last.at;
            self.line.learn(self.last);
        }

        /// How many of `count` it admits now.
        fn admitted(&mut self, tenant: &str, domain: &str, count: u64) -> u64 {
            let (tenant, domain) = (tenant.parse().unwrap(), domain.parse().unwrap());
            let admitted = (0..count).filter(|_| self.line.admits(&tenant, &domain, self.now));
            admitted.count() as u64
        }
    }

    #[test]
    fn a_line_that_moves_admits_everything() {
        let mut asked = Asked::new();
        for second in 0..100 {
            let mut came = 0;
            for _ in 0..10 {
                came += asked.admitted("acme", "a.example", 90);
                asked.now += Duration::from_millis(50);
            }
            assert!(came == 900 || second < 12, "{came} after {second} times");
            asked.learn(came, came);
        }
    }

    #[test]
    fn a_campaign_has_a_share_of_a_long_line_and_others_have_theirs() {
        let mut asked = Asked::new();
        let many = asked.admitted("many", "a.example", 1_000_000);
        assert_eq!(many, 500, "it is long by then");
        asked.learn(5000, 0);
        assert_eq!(asked.admitted("many", "a.example", 100), 0);
        assert_eq!(asked.admitted("few", "a.example", 1000), 500);
        assert_eq!(asked.admitted("many", "b.example", 100), 100);
    }

    #[test]
    fn a_campaign_has_no_more_than_its_share_of_a_line_that_moves_slowly() {
        let mut asked = Asked::new();
        let mut jobs = asked.admitted("many", "a.example", 2500);
        for second in 0..100 {
            let left = jobs.min(75);
            jobs -= left;
            asked.learn(jobs, left);
            jobs += asked.admitted("many", "a.example", 2500);
            assert!((400..=510).contains(&jobs), "{jobs} after {second} times");
        }
    }

    #[test]
    fn whoever_sends_little_never_overflows() {
        let mut asked = Asked::new();
        for _ in 0..5000 {
            asked.learn(300, 5);
            assert_eq!(asked.admitted("few", "a.example", 1), 1);
        }
    }

    #[test]
    fn what_has_left_since_the_last_answer_is_not_there() {
        let mut asked = Asked::new();
        asked.learn(5000, 1000);
        asked.line.pace = 2000.0;
        let jobs = |ms| {
            let later = asked.last.at + Duration::from_millis(ms);
            asked.line.jobs(later)
        };
        let known = [jobs(0), jobs(250), jobs(1000), jobs(5000)];
        assert_eq!(known, [5000.0, 4500.0, 3000.0, 3000.0]);
    }

    #[test]
    fn the_pace_of_a_line_is_what_leaves_it_in_groups_or_not() {
        let mut asked = Asked::new();
        for _ in 0..20 {
            asked.learn(1000, 200);
        }
        assert!((395.0..405.0).contains(&asked.line.pace));
        for _ in 0..20 {
            asked.learn(1000, 0);
            asked.learn(1000, 400);
        }
        assert!((300.0..500.0).contains(&asked.line.pace));
    }

    #[test]
    fn a_line_from_which_little_can_leave_may_still_be_fast_for_a_while() {
        let mut asked = Asked::new();
        asked.learn(10, 1_000_000);
        let fast = asked.line.pace;
        assert!((2000.0..FASTEST).contains(&fast));
        for _ in 0..10 {
            asked.learn(10, 10);
        }
        assert!((0.7 * fast..0.8 * fast).contains(&asked.line.pace));
        for _ in 0..1000 {
            asked.learn(10, 10);
        }
        assert!((FEW..FEW + 1.0).contains(&asked.line.pace));
    }

    #[test]
    fn an_answer_from_before_the_last_is_not_taken_in() {
        let mut asked = Asked::new();
        asked.learn(500, 0);
        let earlier = asked.last;
        asked.learn(400, 100);
        asked.admitted("acme", "a.example", 7);
        asked.line.learn(earlier);
        assert_eq!(asked.line.jobs(asked.last.at), 407.0);
    }
}
