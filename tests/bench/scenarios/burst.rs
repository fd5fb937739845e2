//! Many deferred jobs that come due within a minute, while others go on being accepted.
//!
//! The jobs are deferred by their `send_at`, spread evenly: a deferral's schedule is the same, whoever
//! asked for it. "Fired" is counted where it matters, in the sink.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cell::{Cell, Layout};
use crate::meter;
use crate::report::{Line, Table};
use crate::run::{self, Load};
use crate::scenarios::{Bench, WARM_UP, providers};
use crate::sink::Sink;

const JOBS: usize = 100_000;
/// The time in which they come due, well within a minute: over a whole one they would come more slowly than mail is
/// sent, and say nothing of the rate.
const SPREAD: Duration = Duration::from_secs(15);
/// How long after it everything must have happened, for the run to end.
const DEADLINE: Duration = Duration::from_secs(240);
/// Fresh messages that go on meanwhile, to see whether accepting them stalls.
const FRESH: &str = "20/s";

pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let dir = bench.fresh()?;
    let sink = Sink::start(&dir).await?;
    let layout = Layout {
        nodes: 1,
        providers: providers(1),
        sink: Some(sink.port),
        configure: |_| {},
    };
    let mut cell = Cell::start(&dir, layout).await?;
    cell.start_worker("worker", &[])?;
    cell.warm_up(&sink, &dir, WARM_UP).await?;
    let jobs = JOBS / bench.part;
    // They lie so far ahead that all are stored before the first is due.
    let lead = Duration::from_secs(5 + jobs as u64 / 1500);
    let (ahead, spread) = (
        format!("{}s", lead.as_secs()),
        format!("{}s", SPREAD.as_secs()),
    );
    let stored = Load {
        messages: jobs,
        size: 10 << 10,
        to: "d{100}.p0.bench.example",
        flags: &["--send-in", &ahead, "--send-over", &spread],
    };
    let before = meter::cpu(&cell.pids())?;
    let began = Instant::now();
    let report = run::load_only(run::postrider_load(&cell, &stored)?, &dir).await?;
    let storing = meter::cpu(&cell.pids())? - before;
    cell.print_cpu()?;
    anyhow::ensure!(
        began.elapsed() < lead,
        "storing the jobs took {:?}, and the first were due by then",
        began.elapsed()
    );
    tokio::time::sleep_until(began + lead).await;
    let fired = fire(&cell, &sink, jobs, &dir).await?;
    run::settle(&cell.pids()).await?;
    let all = meter::cpu(&cell.pids())? - before;
    let thousands = jobs as f64 / 1000.0;
    let mut line = Line::new("burst of deferred", "postrider", 1);
    line.msgs_per_s = Some(fired.msgs_per_s);
    line.cpu_s_per_1000 = Some(all.as_secs_f64() / thousands);
    line.rss_mb = Some(fired.rss_mb);
    line.p99_ms = fired.fresh["latency_ms"]["p99"].as_f64();
    line.more = vec![
        ("all_sent_after_s", fired.took.as_secs_f64()),
        (
            "stored_per_s",
            report["msgs_per_s"].as_f64().unwrap_or_default(),
        ),
        ("store_cpu_s_per_1000", storing.as_secs_f64() / thousands),
        (
            "fire_and_send_cpu_s_per_1000",
            (all - storing).as_secs_f64() / thousands,
        ),
        (
            "slowest_publish_ms",
            fired.fresh["latency_ms"]["max"]
                .as_f64()
                .unwrap_or_default(),
        ),
    ];
    table.add(line);
    cell.print_cpu()?;
    cell.check()?;
    cell.stop().await?;
    sink.stop().await
}

struct Fired {
    took: Duration,
    msgs_per_s: f64,
    rss_mb: f64,
    /// The report of the messages accepted meanwhile.
    fresh: Value,
}

/// Waits until all jobs are in the sink, and accepts a few messages all the while.
async fn fire(
    cell: &Cell,
    sink: &Sink,
    jobs: usize,
    dir: &std::path::Path,
) -> anyhow::Result<Fired> {
    let messages = usize::try_from(SPREAD.as_secs()).context("count the seconds")? * 20;
    let fresh = Load {
        messages,
        size: 10 << 10,
        to: "d{100}.p0.bench.example",
        flags: &["--rate", FRESH],
    };
    let before = sink.count()?;
    let began = Instant::now();
    let loading = run::load_only(run::postrider_load(cell, &fresh)?, dir);
    let arriving = async {
        let mut memory: f64 = 0.0;
        let mut sampled = began;
        // The fresh ones are counted too: all have to arrive.
        while sink.count()? < before + jobs + messages {
            if began.elapsed() > DEADLINE {
                let missing = before + jobs + messages - sink.count()?;
                bail!("{missing} messages are not in the sink after {DEADLINE:?}");
            }
            if sampled.elapsed() > Duration::from_secs(1) {
                sampled = Instant::now();
                memory = memory.max(meter::memory_mb(&cell.pids())?);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok((began.elapsed(), memory))
    };
    let (fresh, (took, rss_mb)) = tokio::try_join!(loading, arriving)?;
    Ok(Fired {
        took,
        msgs_per_s: (jobs + messages) as f64 / took.as_secs_f64(),
        rss_mb,
        fresh,
    })
}
