//! Holds what was accepted, how it ended and what was received against each other, however much that is.
//!
//! Accepted, ended and received are three ledgers of three parties. They balance where every accepted job has exactly
//! one ending, every delivered one was received, and nothing was received that did not end in delivery. Every entry of
//! the three becomes a line that begins with the message and the recipient; the lines are sorted on disk, and what
//! belongs together is then read in one piece.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use api::v1::{Event, EventKind};
use mailsim::ledger::{self, Outcome};

use crate::sorted::Sorter;

/// Separates the fields of a line. No address and no id holds it.
const SEPARATOR: char = '\u{1f}';
/// Examples kept of each fault.
const EXAMPLES: usize = 10;

/// Takes entries in any order.
#[derive(Debug, Default)]
pub(crate) struct Reconciler {
    lines: Sorter,
    knows_receiver: bool,
}

/// The books held against each other.
#[derive(Debug, Default)]
pub(crate) struct Reconciliation {
    /// Jobs that were accepted.
    pub(crate) accepted: usize,
    /// Jobs that came to an end.
    pub(crate) ended: usize,
    /// Jobs that did not.
    pub(crate) waiting: Findings,
    /// Messages received more than once, beyond the first copy.
    pub(crate) duplicates: usize,
    /// What does not fit.
    pub(crate) faults: Findings,
}

/// How many, and the first of them in words.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// How many.
    pub(crate) count: usize,
    /// The first ones, in the order of their messages' ids.
    pub(crate) examples: Vec<String>,
}

impl Findings {
    /// Counts one, and keeps it where it is among the first.
    pub(crate) fn add(&mut self, found: String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(found);
        }
    }
}

impl Reconciler {
    /// An event was seen, perhaps not for the first time.
    pub(crate) fn happened(&mut self, event: &Event) -> anyhow::Result<()> {
        let kind = event.kind();
        let what = match kind {
            EventKind::Accepted => 'a',
            EventKind::Deferred => 'd',
            _ if api::kind_from_wire(event.kind).is_some_and(model::EventKind::is_terminal) => 'e',
            _ => return Ok(()),
        };
        self.write(&[
            &event.message_id,
            &event.recipient,
            &what.to_string(),
            &event.job_id,
            &event.id,
            kind.as_str_name(),
        ])
    }

    /// What the receiving side wrote down, a file as the simulator writes it.
    pub(crate) fn received(&mut self, file: &Path) -> anyhow::Result<()> {
        self.knows_receiver = true;
        for entry in ledger::entries(file).context("read the ledger")? {
            let entry = entry.context("read the ledger")?;
            if entry.outcome == Outcome::Accepted {
                // Postrider's Message-ID is `<message id@sender's domain>`.
                let id = entry.message_id.unwrap_or_default();
                let id = id.split('@').next().unwrap_or_default();
                self.write(&[id, &entry.recipient, "r"])?;
            }
        }
        Ok(())
    }

    /// Compares everything.
    pub(crate) fn finish(self) -> anyhow::Result<Reconciliation> {
        let mut reconciliation = Reconciliation::default();
        let mut page = Page::default();
        for line in self.lines.finish()? {
            let line = line?;
            let mut fields = line.split(SEPARATOR);
            let mut field = || fields.next().unwrap_or_default();
            let (message, recipient) = (field(), field());
            if (message, recipient) != (page.message.as_str(), page.recipient.as_str()) {
                reconciliation.close(&page, self.knows_receiver);
                page = Page::of(message, recipient);
            }
            page.add(field(), field(), field(), field());
        }
        reconciliation.close(&page, self.knows_receiver);
        Ok(reconciliation)
    }

    fn write(&mut self, fields: &[&str]) -> anyhow::Result<()> {
        let mut line = String::new();
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                line.push(SEPARATOR);
            }
            line.extend(field.chars().filter(|c| !c.is_control()));
        }
        self.lines.push(line)
    }
}

/// All that is known of one message to one recipient.
#[derive(Debug, Default)]
struct Page {
    message: String,
    recipient: String,
    job: String,
    is_accepted: bool,
    deferrals: BTreeSet<String>,
    /// Distinct terminal events: their ids and kinds.
    endings: BTreeSet<(String, String)>,
    copies: usize,
}

impl Page {
    fn of(message: &str, recipient: &str) -> Self {
        Self {
            message: message.to_owned(),
            recipient: recipient.to_owned(),
            ..Self::default()
        }
    }

    fn add(&mut self, what: &str, job: &str, event: &str, kind: &str) {
        if !job.is_empty() {
            job.clone_into(&mut self.job);
        }
        match what {
            "a" => self.is_accepted = true,
            "d" => drop(self.deferrals.insert(event.to_owned())),
            "e" => drop(self.endings.insert((event.to_owned(), kind.to_owned()))),
            _ => self.copies += 1,
        }
    }
}

impl Reconciliation {
    fn close(&mut self, page: &Page, knows_receiver: bool) {
        let Page {
            job,
            recipient: to,
            copies,
            ..
        } = page;
        self.accepted += usize::from(page.is_accepted);
        self.ended += usize::from(!page.endings.is_empty());
        self.duplicates += copies.saturating_sub(1);
        if job.is_empty() {
            if *copies > 0 {
                let message = &page.message;
                self.faults
                    .add(format!("{to} got {message}, which nobody sent"));
            }
            return;
        }
        let delivered = EventKind::Delivered.as_str_name();
        let endings: Vec<&(String, String)> = page.endings.iter().collect();
        match endings[..] {
            [] => {
                let times = page.deferrals.len();
                self.waiting
                    .add(format!("{job}  {to}  after {times} deferrals"));
                if knows_receiver {
                    self.faults.add(format!("{job} to {to} came to no end"));
                }
            }
            [(_, kind)] if knows_receiver && kind == delivered && *copies == 0 => {
                self.faults
                    .add(format!("{job} is delivered, but {to} did not get it"));
            }
            [(_, kind)] if kind != delivered && *copies > 0 => {
                self.faults.add(format!("{job} is {kind}, but {to} got it"));
            }
            [_] => {}
            [(first, _), (second, _), ..] => {
                self.faults
                    .add(format!("{job} has two endings: {first} and {second}"));
            }
        }
    }
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

    /// The books of a run in which each event was seen twice and `received` stands in the ledger.
    fn reconciled(events: &[Event], received: &[&str]) -> Reconciliation {
        let mut reconciler = Reconciler::default();
        for event in events.iter().chain(events) {
            reconciler.happened(event).unwrap();
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
        reconciler.received(&file).unwrap();
        reconciler.finish().unwrap()
    }

    #[test]
    fn books_that_balance_have_no_fault() {
        let events = [
            event("a", 0, EventKind::Accepted),
            event("a", 1, EventKind::Deferred),
            event("a", 2, EventKind::Delivered),
        ];
        let balanced = reconciled(&events, &["a"]);
        assert_eq!(balanced.faults.examples, [""; 0]);
        assert_eq!((balanced.accepted, balanced.ended), (1, 1));
        assert_eq!(reconciled(&events, &["a", "a"]).duplicates, 1);
    }

    #[test]
    fn each_way_not_to_balance_is_a_fault_that_names_the_job() {
        let delivered = event("a", 1, EventKind::Delivered);
        let cases: [(&[Event], &[&str], &str); 5] = [
            (
                &[event("a", 1, EventKind::Deferred)],
                &[],
                "a to a@x.example came to no end",
            ),
            (
                std::slice::from_ref(&delivered),
                &[],
                "a is delivered, but a@x.example did not get it",
            ),
            (
                &[event("a", 1, EventKind::Bounced)],
                &["a"],
                "a is EVENT_KIND_BOUNCED, but a@x.example got it",
            ),
            (
                &[delivered.clone(), event("a", 2, EventKind::Delivered)],
                &["a"],
                "a has two endings: a:1:EVENT_KIND_DELIVERED and a:2:EVENT_KIND_DELIVERED",
            ),
            (
                std::slice::from_ref(&delivered),
                &["a", "b"],
                "b@x.example got m-b, which nobody sent",
            ),
        ];
        for (events, received, expected) in cases {
            assert_eq!(reconciled(events, received).faults.examples, [expected]);
        }
    }

    #[test]
    fn of_many_faults_the_first_are_told_and_all_are_counted() {
        let events: Vec<Event> = (0..100)
            .map(|job| event(&format!("{job:02}"), 1, EventKind::Deferred))
            .collect();
        let waiting = reconciled(&events, &[]).faults;
        assert_eq!((waiting.count, waiting.examples.len()), (100, EXAMPLES));
        assert!(waiting.examples[0].starts_with("00 "));
    }
}
