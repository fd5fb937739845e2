//! The jobs of one tenant that wait for a site: which is next, and which leaves the window first (ADR 29).

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{Waiting, Whom};

/// The jobs of one tenant.
pub(super) struct Line<J> {
    fresh: VecDeque<(J, Instant)>,
    /// Those that have come back.
    back: VecDeque<(J, Instant)>,
    pub(super) residents: usize,
    pub(super) deficit: u64,
}

impl<J: Waiting> Line<J> {
    pub(super) fn new() -> Self {
        Self {
            fresh: VecDeque::new(),
            back: VecDeque::new(),
            residents: 0,
            deficit: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.back.len()
    }

    pub(super) fn those_like(&mut self, job: &J) -> &mut VecDeque<(J, Instant)> {
        match job.has_come_back() {
            true => &mut self.back,
            false => &mut self.fresh,
        }
    }

    /// The job that came first.
    pub(super) fn first(&self) -> Option<&(J, Instant)> {
        let fronts = [self.back.front(), self.fresh.front()];
        fronts.into_iter().flatten().min_by_key(|(_, since)| *since)
    }

    pub(super) fn pop(&mut self) -> Option<J> {
        let is_back = self.first()?.0.has_come_back();
        let from = match is_back {
            true => &mut self.back,
            false => &mut self.fresh,
        };
        Some(from.pop_front()?.0)
    }

    /// Takes the first of the fresh jobs of `whom`, or the last of those that have come back.
    pub(super) fn shed(&mut self, whom: Whom) -> Option<J> {
        let is_one = |(job, _): &(J, Instant)| whom.includes(job);
        let shed = match self.fresh.iter().position(is_one) {
            Some(first) => self.fresh.remove(first),
            None => self.back.remove(self.back.iter().rposition(is_one)?),
        };
        shed.map(|(job, _)| job)
    }
}
