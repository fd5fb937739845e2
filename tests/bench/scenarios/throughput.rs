//! Postrider on one nats-server and on three, beside Postfix: 10 KB messages, 20 streams or sessions, one destination.

use crate::cell::{Cell, Layout};
use crate::postfix::Postfix;
use crate::report::{Line, Table};
use crate::run::{self, Figures, Load};
use crate::scenarios::{Bench, WARM_UP, providers};
use crate::sink::Sink;

const SIZE: usize = 10 << 10;
/// A hundred domains of one provider: one set of exchangers, as Postfix's one next hop.
const TO: &str = "d{100}.p0.bench.example";

pub(crate) async fn run(bench: &Bench, nodes: usize, table: &mut Table) -> anyhow::Result<()> {
    let (mut postfix, mut postrider) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        if !bench.alone {
            postfix.push(through_postfix(bench).await?);
        }
        postrider.push(through_postrider(bench, nodes).await?);
    }
    let scenario = if nodes == 1 { "single" } else { "cluster" };
    table.add(Line::of(scenario, "postrider", &postrider));
    if !bench.alone {
        table.add(Line::of(scenario, "postfix", &postfix));
    }
    Ok(())
}

fn load(messages: usize) -> Load<'static> {
    Load {
        messages,
        size: SIZE,
        to: TO,
        flags: &[],
    }
}

async fn through_postrider(bench: &Bench, nodes: usize) -> anyhow::Result<Figures> {
    let dir = bench.fresh()?;
    let sink = Sink::start(&dir).await?;
    let layout = Layout {
        nodes,
        providers: providers(1),
        sink: Some(sink.port),
        configure: |_| {},
    };
    let mut cell = Cell::start(&dir, layout).await?;
    cell.start_worker("worker", &[])?;
    cell.warm_up(&sink, &dir, WARM_UP).await?;
    let load = load(if nodes == 1 { 48_000 } else { 30_000 } / bench.part);
    let loader = run::postrider_load(&cell, &load)?;
    let figures = run::through(&load, loader, &cell.pids(), &sink, &dir).await?;
    cell.print_cpu()?;
    cell.check()?;
    cell.stop().await?;
    sink.stop().await?;
    Ok(figures)
}

async fn through_postfix(bench: &Bench) -> anyhow::Result<Figures> {
    let dir = bench.fresh()?;
    let sink = Sink::start(&dir).await?;
    let postfix = Postfix::start(&dir, sink.port).await?;
    let warm_up = load(WARM_UP);
    let loader = run::smtp_source(postfix.port, &warm_up);
    run::through(&warm_up, loader, &postfix.pids(), &sink, &dir).await?;
    let load = load(8_000 / bench.part);
    let loader = run::smtp_source(postfix.port, &load);
    let figures = run::through(&load, loader, &postfix.pids(), &sink, &dir).await?;
    postfix.stop().await?;
    sink.stop().await?;
    Ok(figures)
}
