//! The books of a run: what was accepted, what the events say became of it, and what the receiving side wrote down.
//!
//! Accepted, ended and received are three ledgers of three parties. They balance where every accepted job has exactly
//! one ending, every delivered one was received, and nothing was received that did not end in delivery.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Context as _;
use api::v1::{Event, EventKind};
use mailsim::ledger::{self, Outcome};

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

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Ending {
    event_id: String,
    pub(crate) kind: EventKind,
    pub(crate) took_ms: u64,
}

/// What is known of every job.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pages: HashMap<String, Page>,
    accepted: usize,
    ended: usize,
    contradictions: Vec<String>,
}

/// The books held against each other.
#[derive(Debug)]
pub(crate) struct Reconciliation {
    /// Messages received more than once, beyond the first copy.
    pub(crate) duplicates: usize,
    /// What does not fit, in words.
    pub(crate) faults: Vec<String>,
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
    pub(crate) fn happened(&mut self, event: Event) {
        let page = self.pages.entry(event.job_id.clone()).or_default();
        page.message_id.clone_from(&event.message_id);
        page.recipient.clone_from(&event.recipient);
        let kind = event.kind();
        if kind == EventKind::Deferred {
            page.deferrals.insert(event.id);
            return;
        }
        if !api::kind_from_wire(event.kind).is_some_and(model::EventKind::is_terminal) {
            return;
        }
        let ending = Ending {
            took_ms: took_ms(&event),
            event_id: event.id,
            kind,
        };
        match &page.ending {
            None => {
                self.ended += 1;
                page.ending = Some(ending);
            }
            Some(earlier) if earlier.event_id == ending.event_id => {}
            Some(earlier) => {
                let pair = format!("two endings: {} and {}", earlier.event_id, ending.event_id);
                self.contradictions.push(pair);
            }
        }
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

    /// Jobs with two different endings.
    pub(crate) fn contradictions(&self) -> &[String] {
        &self.contradictions
    }

    /// Holds the endings against the receiving side's ledger, a file as the simulator writes it.
    pub(crate) fn reconcile(&self, file: &Path) -> anyhow::Result<Reconciliation> {
        let mut received = received(file)?;
        let mut faults = self.contradictions.clone();
        let mut duplicates = 0;
        for (job, page) in &self.pages {
            let copies = received.remove(&(page.message_id.clone(), page.recipient.clone()));
            let copies = copies.unwrap_or(0);
            duplicates += copies.saturating_sub(1);
            let (kind, to) = (
                page.ending.as_ref().map(|ending| ending.kind),
                &page.recipient,
            );
            match kind {
                None => faults.push(format!("{job} to {to} came to no end")),
                Some(EventKind::Delivered) if copies == 0 => {
                    faults.push(format!("{job} is delivered, but {to} did not get it"));
                }
                Some(kind) if kind != EventKind::Delivered && copies > 0 => {
                    faults.push(format!("{job} is {}, but {to} got it", kind.as_str_name()));
                }
                Some(_) => {}
            }
        }
        let stray = |(message, to)| format!("{to} got {message}, which nobody sent");
        faults.extend(received.into_keys().map(stray));
        Ok(Reconciliation { duplicates, faults })
    }
}

/// How often each message was received by each recipient. Postrider's Message-ID is `<message id@sender's domain>`.
fn received(file: &Path) -> anyhow::Result<HashMap<(String, String), usize>> {
    let entries = ledger::read(file).context("read the ledger")?;
    let mut received = HashMap::new();
    for entry in entries
        .into_iter()
        .filter(|entry| entry.outcome == Outcome::Accepted)
    {
        let message_id = entry.message_id.unwrap_or_default();
        let message_id = message_id.split('@').next().unwrap_or_default().to_owned();
        *received.entry((message_id, entry.recipient)).or_default() += 1;
    }
    Ok(received)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(job: &str, attempt: u32, kind: EventKind) -> Event {
        Event {
            id: format!("{job}:{attempt}:{}", kind.as_str_name()),
            kind: kind.into(),
            job_id: job.into(),
            message_id: format!("m-{job}"),
            recipient: format!("{job}@x.example"),
            ..Event::default()
        }
    }

    /// The faults of a run in which `received` stands in the ledger.
    fn faults(events: &[Event], received: &[&str]) -> Vec<String> {
        let mut books = Books::default();
        for event in events {
            books.accepted(&event.job_id, &event.message_id, &event.recipient);
            books.happened(event.clone());
        }
        let line = |job: &&str| {
            format!(
                "{{\"time\":\"2026-01-01T00:00:00Z\",\"provider\":\"x\",\"session\":\"s\",\"sender\":\"\",\
                 \"recipient\":\"{job}@x.example\",\"message_id\":\"m-{job}@y\",\"size\":1,\"sha256\":null,\
                 \"tls\":null,\"code\":250,\"reply\":\"ok\",\"outcome\":\"accepted\"}}\n"
            )
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ledger.jsonl");
        std::fs::write(&file, received.iter().map(line).collect::<String>()).unwrap();
        books.reconcile(&file).unwrap().faults
    }

    #[test]
    fn books_that_balance_have_no_fault() {
        let events = [
            event("a", 1, EventKind::Deferred),
            event("a", 2, EventKind::Delivered),
        ];
        assert_eq!(faults(&events, &["a"]), [""; 0]);
    }

    #[test]
    fn each_way_not_to_balance_is_a_fault() {
        let delivered = event("a", 1, EventKind::Delivered);
        let cases: [(&[Event], &[&str], &str); 5] = [
            (&[event("a", 1, EventKind::Deferred)], &[], "came to no end"),
            (std::slice::from_ref(&delivered), &[], "did not get it"),
            (&[event("a", 1, EventKind::Bounced)], &["a"], "got it"),
            (
                &[delivered.clone(), event("a", 2, EventKind::Delivered)],
                &["a"],
                "two endings",
            ),
            (std::slice::from_ref(&delivered), &["a", "b"], "nobody sent"),
        ];
        for (events, received, expected) in cases {
            let found = faults(events, received);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{expected}: {found:?}"
            );
        }
    }
}
