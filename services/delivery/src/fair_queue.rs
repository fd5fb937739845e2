//! The order in which jobs that wait for the same site get their turn.
//!
//! Transactional before bulk, eight to one, so that neither starves; within a class deficit round robin over the
//! tenants, by octets, so that a million jobs of one tenant delay another's next by one turn.

mod line;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use model::{Class, ClassTurns, Tenant};
use queue::Stage;
use tokio::time::Instant;

use crate::settle::InHand;

use self::line::Line;

/// Octets a tenant may send in one turn.
const QUANTUM: u64 = 64 << 10;
/// What a message costs beside its content.
const OVERHEAD: u64 = 4 << 10;

/// What the order depends on.
pub(crate) trait Waiting {
    /// The class it belongs to.
    fn class(&self) -> Class;
    /// Whose it is.
    fn tenant(&self) -> &Tenant;
    /// Octets to send.
    fn size(&self) -> u64;
    /// Octets it takes while it waits.
    fn room(&self) -> u64;
    /// Whether it waits in the window of its provider's own lane.
    fn is_resident(&self) -> bool;
    /// Whether it waited outside of the window before.
    fn has_come_back(&self) -> bool;
}

impl Waiting for InHand {
    fn class(&self) -> Class {
        self.job.class
    }

    fn tenant(&self) -> &Tenant {
        &self.job.tenant
    }

    fn size(&self) -> u64 {
        self.job.body_size
    }

    fn room(&self) -> u64 {
        self.place.octets()
    }

    fn is_resident(&self) -> bool {
        self.place.is_resident()
    }

    fn has_come_back(&self) -> bool {
        self.stage == Stage::Deferred
    }
}

/// Of which jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Of all.
    All,
    /// Of those that wait in the window of their provider's own lane.
    Residents,
    /// Of the others.
    Guests,
}

impl Whom {
    fn includes(self, job: &impl Waiting) -> bool {
        match self {
            Self::All => true,
            Self::Residents => job.is_resident(),
            Self::Guests => !job.is_resident(),
        }
    }

    /// How many it includes of `all` jobs.
    fn count(self, all: usize, residents: usize) -> usize {
        match self {
            Self::All => all,
            Self::Residents => residents,
            Self::Guests => all - residents,
        }
    }
}

/// Jobs in fair order.
pub(crate) struct FairQueue<J> {
    transactional: Turns<J>,
    bulk: Turns<J>,
    turns: ClassTurns,
}

impl<J> Default for FairQueue<J> {
    fn default() -> Self {
        Self {
            transactional: Turns::default(),
            bulk: Turns::default(),
            turns: ClassTurns::default(),
        }
    }
}

impl<J: Waiting> FairQueue<J> {
    pub(crate) fn len(&self) -> usize {
        self.transactional.len + self.bulk.len
    }

    pub(crate) fn count(&self, whom: Whom) -> usize {
        let residents = self.transactional.residents + self.bulk.residents;
        whom.count(self.len(), residents)
    }

    /// Octets that what waits takes.
    pub(crate) fn room(&self) -> u64 {
        self.transactional.room + self.bulk.room
    }

    pub(crate) fn push(&mut self, job: J, now: Instant) {
        self.of(job.class()).push(job, now);
    }

    /// Puts a job to the front: it had its turn and came to nothing.
    pub(crate) fn push_front(&mut self, job: J, now: Instant) {
        self.of(job.class()).push_front(job, now);
    }

    /// The class of the job that is the next to have its turn.
    pub(crate) fn next_class(&self) -> Option<Class> {
        self.turns.next(|class| match class {
            Class::Transactional => self.transactional.len > 0,
            Class::Bulk => self.bulk.len > 0,
        })
    }

    pub(crate) fn pop(&mut self) -> Option<J> {
        let class = self.next_class()?;
        self.turns.had(class);
        self.of(class).pop()
    }

    /// Everything above `keep` jobs of `whom`, of the tenant with the most of them: bulk before transactional, what is fresh
    /// before what has come back, and of the fresh what came first.
    ///
    /// So of what comes through fast the newest is kept, and all that came before it in its stream can leave together (ADR 29).
    pub(crate) fn shed(&mut self, keep: usize, whom: Whom) -> Vec<J> {
        let mut shed = Vec::new();
        while self.count(whom) > keep {
            match self
                .bulk
                .shed(whom)
                .or_else(|| self.transactional.shed(whom))
            {
                Some(job) => shed.push(job),
                None => break,
            }
        }
        shed
    }

    /// When the job that has waited longest came.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        [self.transactional.oldest(), self.bulk.oldest()]
            .into_iter()
            .flatten()
            .min()
    }

    fn of(&mut self, class: Class) -> &mut Turns<J> {
        match class {
            Class::Transactional => &mut self.transactional,
            Class::Bulk => &mut self.bulk,
        }
    }
}

/// One class: a line of tenants, each with a line of jobs.
struct Turns<J> {
    line: VecDeque<Tenant>,
    jobs: HashMap<Tenant, Line<J>>,
    len: usize,
    residents: usize,
    room: u64,
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self {
            line: VecDeque::new(),
            jobs: HashMap::new(),
            len: 0,
            residents: 0,
            room: 0,
        }
    }
}

impl<J: Waiting> Turns<J> {
    fn push(&mut self, job: J, now: Instant) {
        self.count_in(&job);
        let line = self.line_of(&job);
        line.those_like(&job).push_back((job, now));
    }

    fn push_front(&mut self, job: J, now: Instant) {
        self.count_in(&job);
        let line = self.line_of(&job);
        // In front of those of the other kind as well.
        let first = line
            .first()
            .and_then(|(_, since)| since.checked_sub(Duration::from_nanos(1)));
        line.those_like(&job)
            .push_front((job, first.unwrap_or(now)));
    }

    fn count_in(&mut self, job: &J) {
        let residents = usize::from(job.is_resident());
        self.len += 1;
        self.residents += residents;
        self.room += job.room();
        self.line_of(job).residents += residents;
    }

    fn count_out(&mut self, job: &J) {
        self.len -= 1;
        self.residents -= usize::from(job.is_resident());
        self.room -= job.room();
    }

    fn line_of(&mut self, job: &J) -> &mut Line<J> {
        let tenant = job.tenant();
        if !self.jobs.contains_key(tenant) {
            self.line.push_back(tenant.clone());
        }
        self.jobs.entry(tenant.clone()).or_insert_with(Line::new)
    }

    fn pop(&mut self) -> Option<J> {
        loop {
            let tenant = self.line.front()?.clone();
            let line = self.jobs.get_mut(&tenant)?;
            let cost = line.first().map_or(0, |(job, _)| job.size() + OVERHEAD);
            if line.deficit < cost {
                line.deficit += QUANTUM;
                self.line.rotate_left(1);
                continue;
            }
            line.deficit -= cost;
            let job = line.pop()?;
            line.residents -= usize::from(job.is_resident());
            if line.len() == 0 {
                self.jobs.remove(&tenant);
                self.line.pop_front();
            }
            self.count_out(&job);
            return Some(job);
        }
    }

    /// Takes a job of `whom` from the tenant with the most of them.
    fn shed(&mut self, whom: Whom) -> Option<J> {
        let (tenant, line) = self
            .jobs
            .iter_mut()
            .max_by_key(|(_, line)| whom.count(line.len(), line.residents))?;
        let job = line.shed(whom)?;
        line.residents -= usize::from(job.is_resident());
        if line.len() == 0 {
            let tenant = tenant.clone();
            self.jobs.remove(&tenant);
            self.line.retain(|waiting| *waiting != tenant);
        }
        self.count_out(&job);
        Some(job)
    }

    fn oldest(&self) -> Option<Instant> {
        self.jobs
            .values()
            .filter_map(|line| line.first().map(|(_, since)| *since))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Job {
        class: Class,
        tenant: Tenant,
        size: u64,
        is_resident: bool,
        has_come_back: bool,
    }

    impl Waiting for Job {
        fn class(&self) -> Class {
            self.class
        }

        fn tenant(&self) -> &Tenant {
            &self.tenant
        }

        fn size(&self) -> u64 {
            self.size
        }

        fn room(&self) -> u64 {
            self.size
        }

        fn is_resident(&self) -> bool {
            self.is_resident
        }

        fn has_come_back(&self) -> bool {
            self.has_come_back
        }
    }

    fn queue(jobs: &[(Class, &str, u64, usize)]) -> FairQueue<Job> {
        let mut queue = FairQueue::default();
        for (class, tenant, size, count) in jobs {
            for _ in 0..*count {
                let job = Job {
                    class: *class,
                    tenant: tenant.parse().unwrap(),
                    size: *size,
                    is_resident: tenant.starts_with("resident"),
                    has_come_back: false,
                };
                queue.push(job, Instant::now());
            }
        }
        queue
    }

    fn tenants(queue: &mut FairQueue<Job>, count: usize) -> HashMap<String, usize> {
        let mut served = HashMap::new();
        for _ in 0..count {
            *served
                .entry(queue.pop().unwrap().tenant.to_string())
                .or_default() += 1;
        }
        served
    }

    #[tokio::test]
    async fn a_tenant_with_a_million_jobs_does_not_delay_one_with_ten() {
        let jobs = [
            (Class::Bulk, "many", 10_000, 100_000),
            (Class::Bulk, "few", 10_000, 10),
        ];
        let mut queue = queue(&jobs);
        assert_eq!(tenants(&mut queue, 30)["few"], 10);
    }

    #[tokio::test]
    async fn tenants_share_octets_and_not_messages() {
        let jobs = [
            (Class::Bulk, "large", 200_000, 1000),
            (Class::Bulk, "small", 10_000, 1000),
        ];
        let mut queue = queue(&jobs);
        let served = tenants(&mut queue, 300);
        assert!(served["small"] > 10 * served["large"], "{served:?}");
        assert!(served["large"] > 5, "{served:?}");
    }

    #[tokio::test]
    async fn transactional_goes_first_and_bulk_does_not_starve() {
        let jobs = [
            (Class::Bulk, "bulk", 10_000, 100),
            (Class::Transactional, "urgent", 10_000, 100),
        ];
        let mut queue = queue(&jobs);
        let served = tenants(&mut queue, 90);
        assert_eq!((served["urgent"], served["bulk"]), (80, 10));
    }

    #[tokio::test]
    async fn what_is_shed_is_the_largest_tenants_bulk() {
        let jobs = [
            (Class::Transactional, "urgent", 1, 20),
            (Class::Bulk, "many", 1, 100),
            (Class::Bulk, "few", 1, 5),
        ];
        let mut queue = queue(&jobs);
        let shed = queue.shed(40, Whom::All);
        assert_eq!((shed.len(), queue.len(), queue.room()), (85, 40, 40));
        assert!(shed.iter().all(|job| job.tenant.as_str() == "many"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_first_is_shed_first_but_what_has_come_back_last() {
        let mut queue = FairQueue::default();
        let job = |number, has_come_back| Job {
            class: Class::Bulk,
            tenant: "many".parse().unwrap(),
            size: number,
            is_resident: false,
            has_come_back,
        };
        let sizes = |jobs: Vec<Job>| jobs.iter().map(|job| job.size).collect::<Vec<_>>();
        for number in 1..=9 {
            queue.push(job(number, number % 3 == 0), Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(sizes(queue.shed(5, Whom::All)), [1, 2, 4, 5]);
        assert_eq!(
            queue.pop().unwrap().size,
            3,
            "turns are in the order in which they came"
        );
        queue.push_front(job(3, true), Instant::now());
        queue.push_front(job(2, false), Instant::now());
        let first = [queue.pop(), queue.pop()].map(|job| job.unwrap().size);
        assert_eq!(first, [2, 3]);
        assert_eq!(sizes(queue.shed(1, Whom::All)), [7, 8, 9]);
        assert_eq!(queue.pop().unwrap().size, 6);
        assert_eq!((queue.len(), queue.room()), (0, 0));
    }

    #[tokio::test]
    async fn residents_stay_where_guests_are_shed_and_have_turns_with_them() {
        let jobs = [
            (Class::Bulk, "resident", 1, 100),
            (Class::Bulk, "guest", 1, 30),
            (Class::Transactional, "residents", 1, 10),
        ];
        let mut queue = queue(&jobs);
        for _ in 0..5 {
            let last = Job {
                class: Class::Bulk,
                tenant: "guest".parse().unwrap(),
                size: 1,
                is_resident: true,
                has_come_back: false,
            };
            queue.push(last, Instant::now());
        }
        let shed = queue.shed(20, Whom::Guests);
        assert!(shed.iter().all(|job| !job.is_resident));
        assert_eq!((shed.len(), queue.len(), queue.room()), (10, 135, 135));
        assert!(queue.shed(20, Whom::Guests).is_empty());
        assert_eq!(tenants(&mut queue, 9)["residents"], 8);
        let guests = queue.count(Whom::Guests);
        assert_eq!(queue.shed(0, Whom::Residents).len(), 126 - guests);
        assert_eq!(queue.shed(0, Whom::All).len(), guests);
        assert_eq!((queue.len(), queue.room()), (0, 0));
    }
}
