//! Counts the answers of a load and says how it went.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::time::Instant;

use super::Answer;
use crate::client::Output;

const LINE_EVERY: Duration = Duration::from_secs(1);

/// The answers so far.
pub(crate) struct Report {
    expected: usize,
    output: Output,
    began: Instant,
    accepted: usize,
    refused: BTreeMap<String, usize>,
    latency_us: Option<Histogram<u64>>,
    last_line: (Instant, usize),
}

impl Report {
    pub(crate) fn new(expected: usize, output: Output) -> Self {
        let now = Instant::now();
        Self {
            expected,
            output,
            began: now,
            accepted: 0,
            refused: BTreeMap::new(),
            latency_us: Histogram::new_with_bounds(1, 3_600_000_000, 3).ok(),
            last_line: (now, 0),
        }
    }

    pub(crate) fn count(&mut self, answer: Answer) {
        match answer.refused {
            None => self.accepted += 1,
            Some(detail) => *self.refused.entry(detail).or_default() += 1,
        }
        if let Some(latency) = &mut self.latency_us {
            latency.saturating_record(u64::try_from(answer.took.as_micros()).unwrap_or(u64::MAX));
        }
        let (at, before) = self.last_line;
        if at.elapsed() >= LINE_EVERY {
            let rate = (self.accepted - before) as f64 / at.elapsed().as_secs_f64();
            eprintln!(
                "{:>9} of {} accepted, {rate:>7.0}/s",
                self.accepted, self.expected
            );
            self.last_line = (Instant::now(), self.accepted);
        }
    }

    /// Prints the result.
    pub(crate) fn finish(&self) -> ExitCode {
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = self.accepted as f64 / seconds;
        let percentile = |p| {
            self.latency_us
                .as_ref()
                .map_or(0, |h| h.value_at_quantile(p))
        };
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|p| percentile(p) as f64 / 1000.0);
        match self.output {
            Output::Json => println!(
                "{}",
                json!({
                    "accepted": self.accepted, "refused": self.refused.values().sum::<usize>(),
                    "seconds": seconds, "msgs_per_s": rate,
                    "latency_ms": { "p50": p50, "p90": p90, "p99": p99, "max": max },
                })
            ),
            Output::Text => {
                println!(
                    "{} accepted in {seconds:.2} s: {rate:.0} messages/s",
                    self.accepted
                );
                println!(
                    "time to durable: p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"
                );
                for (detail, count) in self.refused.iter().take(5) {
                    println!("{count} refused: {detail}");
                }
            }
        }
        if self.accepted == self.expected {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
