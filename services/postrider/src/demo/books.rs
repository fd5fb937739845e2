//! The books: what was accepted, what the events say became of it, and what the simulator's ledger says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use api::v1::{Event, EventKind, WatchResponse};
use hdrhistogram::Histogram;
use mailsim::ledger::{self, Outcome};

use super::traffic::AcceptedJob;
use super::world::NEIGHBOURS;

/// One job's page.
#[derive(Debug, Default)]
struct Page {
    message_id: String,
    recipient: String,
    is_accepted: bool,
    deferrals: HashSet<String>,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    event_id: String,
    kind: EventKind,
    took_ms: u64,
}

/// What is known of every job.
#[derive(Debug)]
pub(crate) struct Books {
    expected: usize,
    pages: HashMap<String, Page>,
    ended: usize,
    accepted: usize,
    contradictions: Vec<String>,
}

/// One provider's line.
#[derive(Debug, Default, Clone)]
pub(crate) struct Line {
    pub(crate) accepted: usize,
    pub(crate) delivered: usize,
    pub(crate) deferred: usize,
    pub(crate) waiting: usize,
    pub(crate) bounced: usize,
    pub(crate) other: usize,
    took_ms: Vec<u64>,
}

impl Books {
    pub(crate) fn new(expected: usize) -> Self {
        Self {
            expected,
            pages: HashMap::new(),
            ended: 0,
            accepted: 0,
            contradictions: Vec::new(),
        }
    }

    /// The API accepted a job.
    pub(crate) fn accepted(&mut self, job: AcceptedJob) {
        self.accepted += 1;
        let page = self.pages.entry(job.job_id).or_default();
        page.is_accepted = true;
        page.message_id = job.message_id;
        page.recipient = job.recipient;
    }

    /// An event was seen, perhaps not for the first time.
    pub(crate) fn happened(&mut self, response: WatchResponse) {
        let Some(event) = response.event else { return };
        let kind = EventKind::try_from(event.kind).unwrap_or_default();
        let page = self.pages.entry(event.job_id.clone()).or_default();
        page.recipient.clone_from(&event.recipient);
        match kind {
            EventKind::Unspecified | EventKind::Accepted => {}
            EventKind::Deferred => {
                page.deferrals.insert(event.id);
            }
            EventKind::Delivered
            | EventKind::Bounced
            | EventKind::Expired
            | EventKind::Quarantined
            | EventKind::Cancelled => {
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
                        self.contradictions
                            .push(format!("{} and {}", earlier.event_id, ending.event_id));
                    }
                }
            }
        }
    }

    /// Jobs accepted so far.
    pub(crate) fn submitted(&self) -> usize {
        self.accepted
    }

    /// Jobs that came to their end.
    pub(crate) fn ended(&self) -> usize {
        self.ended
    }

    /// Jobs there will be.
    pub(crate) fn expected(&self) -> usize {
        self.expected
    }

    /// Whether every job was accepted and came to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.accepted == self.expected && self.ended == self.expected
    }

    /// A line for each provider, in the order of the world.
    pub(crate) fn lines(&self) -> Vec<(&'static str, Line)> {
        let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
        for page in self.pages.values() {
            let domain = page.recipient.rsplit('@').next().unwrap_or_default();
            let line = lines.entry(domain).or_default();
            line.accepted += usize::from(page.is_accepted);
            line.deferred += usize::from(!page.deferrals.is_empty());
            match page
                .ending
                .as_ref()
                .map(|ending| (ending.kind, ending.took_ms))
            {
                None => line.waiting += 1,
                Some((EventKind::Delivered, took)) => {
                    line.delivered += 1;
                    line.took_ms.push(took);
                }
                Some((EventKind::Bounced, _)) => line.bounced += 1,
                Some(_) => line.other += 1,
            }
        }
        NEIGHBOURS
            .iter()
            .map(|n| (n.domain, lines.remove(n.domain).unwrap_or_default()))
            .collect()
    }

    /// Holds the books against the ledger of the simulator.
    pub(crate) fn reconcile(&self, file: &Path) -> anyhow::Result<Balance> {
        let entries = ledger::read(file).context("read the simulator's ledger")?;
        let mut taken: HashMap<(String, String), usize> = HashMap::new();
        for entry in entries
            .into_iter()
            .filter(|entry| entry.outcome == Outcome::Accepted)
        {
            // Postrider's Message-ID is <message id@sender's domain>.
            let message_id = entry.message_id.unwrap_or_default();
            let message_id = message_id.split('@').next().unwrap_or_default().to_owned();
            *taken.entry((message_id, entry.recipient)).or_default() += 1;
        }
        let mut faults = self
            .contradictions
            .iter()
            .map(|pair| format!("two endings: {pair}"))
            .collect::<Vec<_>>();
        let mut duplicates = 0;
        for (job, page) in &self.pages {
            let copies = taken
                .remove(&(page.message_id.clone(), page.recipient.clone()))
                .unwrap_or(0);
            duplicates += copies.saturating_sub(1);
            match page.ending.as_ref().map(|ending| ending.kind) {
                None => faults.push(format!("{job} to {} came to no end", page.recipient)),
                Some(EventKind::Delivered) if copies == 0 => {
                    faults.push(format!(
                        "{job} is delivered, but {} did not get it",
                        page.recipient
                    ));
                }
                Some(EventKind::Delivered) => {}
                Some(kind) if copies > 0 => {
                    faults.push(format!(
                        "{job} is {}, but {} got it",
                        kind.as_str_name(),
                        page.recipient
                    ));
                }
                Some(_) => {}
            }
        }
        faults.extend(
            taken
                .into_keys()
                .map(|(message, to)| format!("{to} got {message}, which nobody sent")),
        );
        if self.accepted != self.expected {
            faults.push(format!(
                "{} of {} messages were accepted",
                self.accepted, self.expected
            ));
        }
        Ok(Balance {
            lines: self.lines(),
            duplicates,
            faults,
        })
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

/// The end of the demo.
#[derive(Debug)]
pub(crate) struct Balance {
    lines: Vec<(&'static str, Line)>,
    duplicates: usize,
    faults: Vec<String>,
}

impl Balance {
    /// Whether accepted, delivered and received are the same books.
    pub(crate) fn is_balanced(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = [
            "provider",
            "accepted",
            "delivered",
            "deferred",
            "bounced",
            "p50",
            "p99",
        ];
        writeln!(
            f,
            "\n{:<18}{:>9}{:>10}{:>9}{:>8}{:>9}{:>9}",
            titles[0], titles[1], titles[2], titles[3], titles[4], titles[5], titles[6]
        )?;
        let mut total = Line::default();
        for (domain, line) in &self.lines {
            write_line(f, domain, line)?;
            total.accepted += line.accepted;
            total.delivered += line.delivered;
            total.deferred += line.deferred;
            total.bounced += line.bounced;
            total.took_ms.extend(&line.took_ms);
        }
        write_line(f, "all", &total)?;
        writeln!(
            f,
            "\n\"deferred\" counts messages that were deferred at least once; times are from acceptance to delivery."
        )?;
        if self.duplicates > 0 {
            writeln!(f, "{} message(s) were received twice.", self.duplicates)?;
        }
        if self.faults.is_empty() {
            return writeln!(
                f,
                "The books balance: every accepted message ended once, as the providers' ledger has it."
            );
        }
        for fault in self.faults.iter().take(10) {
            writeln!(f, "  {fault}")?;
        }
        writeln!(
            f,
            "The books do NOT balance: {} fault(s).",
            self.faults.len()
        )
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, name: &str, line: &Line) -> fmt::Result {
    let Line {
        accepted,
        delivered,
        deferred,
        bounced,
        ..
    } = line;
    let (p50, p99) = (
        percentile(&line.took_ms, 50.0),
        percentile(&line.took_ms, 99.0),
    );
    writeln!(
        f,
        "{name:<18}{accepted:>9}{delivered:>10}{deferred:>9}{bounced:>8}{p50:>9}{p99:>9}"
    )
}

/// The longest a delivery is told apart from longer ones.
const DAY_MS: u64 = 86_400_000;

/// A percentile of milliseconds, as people write it.
fn percentile(took_ms: &[u64], percentile: f64) -> String {
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, DAY_MS, 3) else {
        return String::new();
    };
    for took in took_ms {
        histogram.saturating_record((*took).max(1));
    }
    match histogram.value_at_percentile(percentile) {
        0 => "-".to_owned(),
        ms @ 1..1000 => format!("{ms} ms"),
        ms => format!("{:.1} s", ms as f64 / 1000.0),
    }
}
