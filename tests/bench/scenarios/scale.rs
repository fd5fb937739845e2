//! One worker, two and four, against exchangers 50 ms away that allow each source few connections.
//!
//! What limits a worker here is the distance and not the machine, so that the workers of one machine stand for the
//! workers of several: messages are submitted at twice the rate at which the workers send them, and not as fast as the
//! machine can. Each worker has a source address of its own.

use crate::cell::{Cell, Layout};
use crate::distance::Distance;
use crate::report::{Line, Table};
use crate::run::{self, Figures, Load};
use crate::scenarios::{Bench, WARM_UP, providers};
use crate::sink::Sink;

const WORKERS: [usize; 3] = [1, 2, 4];
/// Messages for each worker: some fifteen seconds' worth.
const MESSAGES: usize = 4000;
/// So many are submitted in a second for each worker.
const SUBMITTED: usize = 600;
const PROVIDERS: usize = 4;

pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let mut alone = None;
    for workers in WORKERS {
        let figures = through(bench, workers).await?;
        let rate = figures.msgs_per_s;
        let mut line = Line::of(
            &format!("{workers} workers, 50 ms"),
            "postrider",
            &[figures],
        );
        line.more
            .push(("times_one_worker", rate / *alone.get_or_insert(rate)));
        table.add(line);
    }
    Ok(())
}

async fn through(bench: &Bench, workers: usize) -> anyhow::Result<Figures> {
    let dir = bench.fresh()?;
    let sink = Sink::start(&dir).await?;
    let distance = Distance::to(sink.port).await?;
    let layout = Layout {
        nodes: 1,
        providers: providers(PROVIDERS),
        sink: Some(distance.port()),
        configure: |config| {
            config.delivery.limits.connections = 4;
            config.nats.lanes = 8;
        },
    };
    let mut cell = Cell::start(&dir, layout).await?;
    for number in 1..=workers {
        let (source, address) = (format!("s{number}"), format!("127.0.0.{}", number + 1));
        let overrides = [
            ("POSTRIDER__DELIVERY__SOURCE", source.as_str()),
            ("POSTRIDER__DELIVERY__SOURCE_ADDRESS", address.as_str()),
        ];
        cell.start_worker(&format!("worker-{number}"), &overrides)?;
    }
    cell.warm_up(&sink, &dir, WARM_UP / 4).await?;
    let rate = format!("{}/s", SUBMITTED * workers);
    let load = Load {
        messages: MESSAGES * workers / bench.part,
        size: 10 << 10,
        to: "d{100000}.p{4}.bench.example",
        flags: &["--rate", &rate],
    };
    let loader = run::postrider_load(&cell, &load)?;
    let figures = run::through(&load, loader, &cell.pids(), &sink, &dir).await?;
    cell.check()?;
    cell.stop().await?;
    distance.stop().await;
    sink.stop().await?;
    Ok(figures)
}
