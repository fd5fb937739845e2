//! The table at the end of the demo: what became of each provider's mail, and whether the books balance.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use api::v1::EventKind;
use hdrhistogram::Histogram;

use super::world::NEIGHBOURS;
use crate::books::Books;
use crate::reconcile::{Findings, Reconciliation};

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

/// A line for each provider, in the order of the world.
pub(crate) fn lines(books: &Books) -> Vec<(&'static str, Line)> {
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    for (_, page) in books.pages() {
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
    let mut line = |domain| (domain, lines.remove(domain).unwrap_or_default());
    NEIGHBOURS
        .iter()
        .map(|neighbour| line(neighbour.domain))
        .collect()
}

/// Holds the books against the simulator's ledger.
pub(crate) fn balance(books: Books, expected: usize, ledger: &Path) -> anyhow::Result<Balance> {
    let (lines, accepted) = (lines(&books), books.accepted_count());
    let Reconciliation {
        duplicates,
        mut faults,
        ..
    } = books.reconcile(ledger)?;
    if accepted != expected {
        faults.add(format!("{accepted} of {expected} messages were accepted"));
    }
    Ok(Balance {
        lines,
        duplicates,
        faults,
    })
}

/// The end of the demo.
#[derive(Debug)]
pub(crate) struct Balance {
    lines: Vec<(&'static str, Line)>,
    duplicates: usize,
    faults: Findings,
}

impl Balance {
    /// Whether accepted, delivered and received are the same books.
    pub(crate) fn is_balanced(&self) -> bool {
        self.faults.count == 0
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
        if self.is_balanced() {
            return writeln!(
                f,
                "The books balance: every accepted message ended once, as the providers' ledger has it."
            );
        }
        for fault in &self.faults.examples {
            writeln!(f, "  {fault}")?;
        }
        writeln!(
            f,
            "The books do NOT balance: {} fault(s).",
            self.faults.count
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
