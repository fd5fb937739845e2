//! How often each provider did what.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ledger::Outcome;

/// One provider's counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    turned_away: AtomicU64,
    throttled: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    deferred: AtomicU64,
    cut: AtomicU64,
}

/// What one provider did since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Of these, how many were greeted with 421 because there were too many.
    pub turned_away: u64,
    /// MAIL commands answered 421 because they came too fast.
    pub throttled: u64,
    /// Recipients accepted.
    pub accepted: u64,
    /// Recipients rejected.
    pub rejected: u64,
    /// Recipients deferred.
    pub deferred: u64,
    /// Recipients whose message was taken to the end and never answered.
    pub cut: u64,
}

impl Counters {
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_recipients(&self, outcome: Outcome, recipients: usize) {
        let counter = match outcome {
            Outcome::Accepted => &self.accepted,
            Outcome::Rejected => &self.rejected,
            Outcome::Deferred => &self.deferred,
            Outcome::Cut => &self.cut,
        };
        counter.fetch_add(recipients as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: read(&self.connections),
            turned_away: read(&self.turned_away),
            throttled: read(&self.throttled),
            accepted: read(&self.accepted),
            rejected: read(&self.rejected),
            deferred: read(&self.deferred),
            cut: read(&self.cut),
        }
    }
}
