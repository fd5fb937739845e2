//! What the runs add up to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

/// What one run took, per message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Messages in one second of the clock.
    pub(crate) per_second: f64,
    /// CPU time of the client, user and system together.
    pub(crate) cpu: Duration,
    /// Heap allocations of the client; `None` where they cannot be counted.
    pub(crate) allocations: Option<f64>,
}

/// The medians of one client over one course.
pub(crate) struct Row {
    client: &'static str,
    round_trip: Duration,
    messages: u32,
    rounds: usize,
    median: Cost,
}

impl Row {
    pub(crate) fn new(
        client: &'static str,
        round_trip: Duration,
        messages: u32,
        costs: Vec<Cost>,
    ) -> Self {
        let allocations: Vec<f64> = costs.iter().filter_map(|cost| cost.allocations).collect();
        let cpu = costs.iter().map(|cost| cost.cpu.as_secs_f64()).collect();
        Self {
            client,
            round_trip,
            messages,
            rounds: costs.len(),
            median: Cost {
                per_second: median(costs.iter().map(|cost| cost.per_second).collect()),
                cpu: Duration::from_secs_f64(median(cpu)),
                allocations: (!allocations.is_empty()).then(|| median(allocations)),
            },
        }
    }

    fn cpu_micros(&self) -> f64 {
        self.median.cpu.as_secs_f64() * 1e6
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("client          round trip      msg/s   CPU us/msg   allocations/msg");
    for row in rows {
        let allocations = row.median.allocations;
        println!(
            "{:<16}{:>7} ms{:>11.1}{:>13.1}{:>18}",
            row.client,
            row.round_trip.as_millis(),
            row.median.per_second,
            row.cpu_micros(),
            allocations.map_or("-".to_owned(), |count| format!("{count:.1}")),
        );
    }
}

pub(crate) fn write(rows: &[Row]) -> std::io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench/smtp.json");
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "client": row.client,
                "round_trip_ms": row.round_trip.as_millis() as u64,
                "messages": row.messages,
                "rounds": row.rounds,
                "messages_per_second": row.median.per_second,
                "cpu_us_per_message": row.cpu_micros(),
                "allocations_per_message": row.median.allocations,
            })
        })
        .collect();
    fs::create_dir_all(path.with_file_name(""))?;
    fs::write(path, format!("{:#}\n", json!({ "rows": rows })))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
