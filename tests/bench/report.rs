//! The results: a table for people, and a list in JSON for programs.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tests::meter::median;

use crate::run::Figures;

/// One line: a scenario as one system does it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) scenario: String,
    pub(crate) system: &'static str,
    pub(crate) runs: usize,
    pub(crate) msgs_per_s: Option<f64>,
    pub(crate) cpu_s_per_1000: Option<f64>,
    pub(crate) rss_mb: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// What only this scenario has to say, by name.
    pub(crate) more: Vec<(&'static str, f64)>,
}

impl Line {
    /// A line without figures yet.
    pub(crate) fn new(scenario: impl Into<String>, system: &'static str, runs: usize) -> Self {
        Self {
            scenario: scenario.into(),
            system,
            runs,
            msgs_per_s: None,
            cpu_s_per_1000: None,
            rss_mb: None,
            p99_ms: None,
            more: Vec::new(),
        }
    }

    /// The medians of `all`.
    pub(crate) fn of(scenario: &str, system: &'static str, all: &[Figures]) -> Self {
        let middle = |of: fn(&Figures) -> f64| median(all.iter().map(of).collect());
        let maybe = |of: fn(&Figures) -> Option<f64>| median(all.iter().filter_map(of).collect());
        let more = [
            ("accepted_per_s", maybe(|run| run.accepted_per_s)),
            (
                "loader_cpu_s_per_1000",
                middle(|run| run.loader_cpu_s_per_1000),
            ),
            ("sink_cpu_s_per_1000", middle(|run| run.sink_cpu_s_per_1000)),
        ];
        Self {
            msgs_per_s: middle(|run| run.msgs_per_s),
            cpu_s_per_1000: middle(|run| run.cpu_s_per_1000),
            rss_mb: middle(|run| run.rss_mb),
            p99_ms: maybe(|run| run.p99_ms),
            more: more
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            ..Self::new(scenario, system, all.len())
        }
    }

    fn json(&self) -> Value {
        let more: Map<String, Value> = self
            .more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), rounded(*value)))
            .collect();
        json!({
            "scenario": self.scenario, "system": self.system, "runs": self.runs,
            "msgs_per_s": self.msgs_per_s.map(rounded),
            "cpu_s_per_1000": self.cpu_s_per_1000.map(rounded),
            "rss_mb": self.rss_mb.map(rounded), "p99_ms": self.p99_ms.map(rounded),
            "more": more,
        })
    }
}

/// Three decimals are more than the figures are worth.
fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

/// All lines so far.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Line>);

impl Table {
    /// Adds a line and shows it.
    pub(crate) fn add(&mut self, line: Line) {
        eprintln!("{line}");
        self.0.push(line);
    }

    /// Writes the list.
    pub(crate) fn store(&self, file: &Path) -> anyhow::Result<()> {
        let list: Vec<Value> = self.0.iter().map(Line::json).collect();
        let text = serde_json::to_string_pretty(&list).context("write the results")?;
        std::fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |value: Option<f64>, decimals: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        write!(
            f,
            "{:<22} {:<9} {:>9} {:>10} {:>8} {:>9} {:>5} ",
            self.scenario,
            self.system,
            figure(self.msgs_per_s, 0),
            figure(self.cpu_s_per_1000, 3),
            figure(self.rss_mb, 0),
            figure(self.p99_ms, 1),
            self.runs,
        )?;
        for (name, value) in &self.more {
            write!(f, " {name} {value:.3}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22} {:<9} {:>9} {:>10} {:>8} {:>9} {:>5}",
            "scenario", "system", "msgs/s", "CPU s/1000", "RSS MB", "p99 ms", "runs"
        )?;
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
