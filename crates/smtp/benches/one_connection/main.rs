//! How fast one connection is, and what a message costs its client: this engine, by DATA
//! and by BDAT, beside lettre and Postfix's smtp-source.
//!
//! All send the same 10 KB message over loopback to the same sink, which runs as a process of its own, once as it
//! is and once with 50 ms to every round trip. Rounds are interleaved and medians reported, because the machine is
//! rarely idle: trust ratios, and CPU more than time. Prints a table and writes `target/bench/smtp.json`.

mod clients;
mod report;
mod sink;

use std::time::Duration;

use anyhow::Context as _;

use clients::Client;
use report::{Cost, Row};
use sink::Sink;

/// One distance to the sink, and how much is sent over it.
struct Course {
    round_trip: Duration,
    messages: u32,
    rounds: usize,
}

const COURSES: [Course; 2] = [
    Course {
        round_trip: Duration::ZERO,
        messages: 4000,
        rounds: 7,
    },
    Course {
        round_trip: Duration::from_millis(50),
        messages: 40,
        rounds: 3,
    },
];

fn main() -> anyhow::Result<()> {
    if let Some(round_trip) = sink::asked_for() {
        return sink::run(round_trip);
    }
    let mut rows = Vec::new();
    for course in &COURSES {
        rows.extend(race(course)?);
    }
    report::print(&rows);
    report::write(&rows).context("write target/bench/smtp.json")
}

/// Every client over one course, round by round.
fn race(course: &Course) -> anyhow::Result<Vec<Row>> {
    let sink = Sink::start(course.round_trip).context("start the sink")?;
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); Client::ALL.len()];
    for _ in 0..course.rounds {
        for (client, costs) in Client::ALL.iter().zip(&mut costs) {
            let cost = client.send(sink.address(), course.messages);
            costs.push(cost.with_context(|| format!("send with {}", client.name()))?);
        }
    }
    let rows = Client::ALL.iter().zip(costs);
    Ok(rows
        .map(|(client, costs)| Row::new(client.name(), course.round_trip, course.messages, costs))
        .collect())
}
