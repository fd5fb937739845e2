//! Ingest alone, with no worker: messages accepted, by stream and by batch, small, middling and large.

use anyhow::Context as _;

use crate::cell::{Cell, Layout};
use crate::report::{Line, Table};
use crate::run::{self, Load};
use crate::scenarios::{Bench, providers};
use tests::meter;

/// Octets of a message, and how many of them are sent: about as many octets each time.
const SIZES: [(usize, usize, &str); 3] = [
    (1 << 10, 60_000, "1 KB"),
    (10 << 10, 40_000, "10 KB"),
    (100 << 10, 6_000, "100 KB"),
];

pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    for (size, messages, name) in SIZES {
        for (way, flags) in [("stream", &[][..]), ("batch", &["--batch", "50"][..])] {
            let load = Load {
                messages: messages / bench.part,
                size,
                to: "d{100}.p0.bench.example",
                flags,
            };
            let line = Line::new(format!("ingest {way}, {name}"), "postrider", 1);
            table.add(measured(bench, &load, line).await?);
        }
    }
    Ok(())
}

async fn measured(bench: &Bench, load: &Load<'_>, mut line: Line) -> anyhow::Result<Line> {
    let dir = bench.fresh()?;
    let layout = Layout {
        nodes: 1,
        providers: providers(1),
        sink: None,
        configure: |_| {},
    };
    let mut cell = Cell::start(&dir, layout).await?;
    let warm_up = Load {
        messages: 500,
        ..load.clone()
    };
    run::load_only(run::postrider_load(&cell, &warm_up)?, &dir).await?;
    let before = meter::cpu(&cell.pids())?;
    let report = run::load_only(run::postrider_load(&cell, load)?, &dir).await?;
    line.rss_mb = Some(meter::memory_mb(&cell.pids())?);
    run::settle(&cell.pids()).await?;
    let used = meter::cpu(&cell.pids())? - before;
    line.msgs_per_s = Some(report["msgs_per_s"].as_f64().context("read the rate")?);
    line.p99_ms = report["latency_ms"]["p99"].as_f64();
    line.cpu_s_per_1000 = Some(used.as_secs_f64() * 1000.0 / load.messages as f64);
    cell.check()?;
    cell.stop().await?;
    Ok(line)
}
