//! The books of a run while it goes on: what was accepted, and what the events say became of it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use api::v1::{Event, EventKind};

use crate::reconcile::{Reconciler, Reconciliation};

/// One job's page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) message_id: String,
    pub(crate) recipient: String,
    pub(crate) is_accepted: bool,
    /// Distinct deferrals, by event id.
    pub(crate) deferrals: HashSet<String>,
    pub(crate) ending: Option<Ending>,
}

/// How a job ended first.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) kind: EventKind,
    pub(crate) took_ms: u64,
}

/// What is known of every job.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pages: HashMap<String, Page>,
    accepted: usize,
    ended: usize,
    reconciler: Reconciler,
}

impl Books {
    /// A job was accepted.
    pub(crate) fn accepted(&mut self, job_id: &str, message_id: &str, recipient: &str) {
        let page = self.pages.entry(job_id.to_owned()).or_default();
        self.accepted += usize::from(!page.is_accepted);
        page.is_accepted = true;
        message_id.clone_into(&mut page.message_id);
        recipient.clone_into(&mut page.recipient);
    }

    /// An event was seen, perhaps not for the first time.
    pub(crate) fn happened(&mut self, event: Event) -> anyhow::Result<()> {
        self.reconciler.happened(&event)?;
        let page = self.pages.entry(event.job_id.clone()).or_default();
        page.message_id.clone_from(&event.message_id);
        page.recipient.clone_from(&event.recipient);
        let kind = event.kind();
        if kind == EventKind::Deferred {
            page.deferrals.insert(event.id);
            return Ok(());
        }
        let is_terminal =
            api::kind_from_wire(event.kind).is_some_and(model::EventKind::is_terminal);
        if is_terminal && page.ending.is_none() {
            self.ended += 1;
            page.ending = Some(Ending {
                took_ms: took_ms(&event),
                kind,
            });
        }
        Ok(())
    }

    /// Jobs accepted so far.
    pub(crate) fn accepted_count(&self) -> usize {
        self.accepted
    }

    /// Jobs that came to their end.
    pub(crate) fn ended_count(&self) -> usize {
        self.ended
    }

    /// Every job.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (&String, &Page)> {
        self.pages.iter()
    }

    /// Holds all that happened against the receiving side's ledger, a file as the simulator writes it.
    pub(crate) fn reconcile(self, file: &Path) -> anyhow::Result<Reconciliation> {
        let mut reconciler = self.reconciler;
        reconciler.received(file)?;
        reconciler.finish()
    }
}

/// Milliseconds from acceptance to the event.
fn took_ms(event: &Event) -> u64 {
    let millis = |time: &Option<prost_types::Timestamp>| {
        time.as_ref()
            .and_then(api::timestamp_from_wire)
            .map_or(0, |time| time.as_millisecond())
    };
    u64::try_from(millis(&event.occurred_at) - millis(&event.accepted_at)).unwrap_or(0)
}
