//! 100,000 messages to as many domains over 2,000 sets of exchangers, and the same number to one domain.

use crate::cell::{Cell, Layout};
use crate::report::{Line, Table};
use crate::run::{self, Figures, Load};
use crate::scenarios::{Bench, WARM_UP, providers};
use crate::sink::Sink;

const MESSAGES: usize = 100_000;
const SETS: usize = 2000;

pub(crate) async fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    // A run takes half a minute: the comparison is within one machine's moment, whatever the moment.
    let many = through(bench, "d{100000}.p{2000}.bench.example").await?;
    let one = through(bench, "p0.bench.example").await?;
    let part = many.msgs_per_s / one.msgs_per_s;
    table.add(Line::of("one domain", "postrider", &[one]));
    let mut line = Line::of("100,000 domains", "postrider", &[many]);
    line.more.push(("part_of_one_domain", part));
    table.add(line);
    Ok(())
}

async fn through(bench: &Bench, to: &str) -> anyhow::Result<Figures> {
    let dir = bench.fresh()?;
    let sink = Sink::of_many_hosts().await?;
    let layout = Layout {
        nodes: 1,
        providers: providers(SETS),
        sink: Some(sink.port),
        configure: |_| {},
    };
    let mut cell = Cell::start(&dir, layout).await?;
    cell.start_worker("worker", &[])?;
    cell.warm_up(&sink, &dir, WARM_UP).await?;
    let load = Load {
        messages: MESSAGES / bench.part,
        size: 10 << 10,
        to,
        flags: &[],
    };
    let loader = run::postrider_load(&cell, &load)?;
    let figures = run::through(&load, loader, &cell.pids(), &sink, &dir).await?;
    cell.check()?;
    cell.stop().await?;
    sink.stop().await?;
    Ok(figures)
}
