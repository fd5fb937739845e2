//! Postrider on one nats-server and on three, beside Postfix: 10 KB messages, 20 streams or sessions, one destination.

use anyhow::Context as _;
use tests::{Disk, Order};

use crate::cell::{Cell, Layout};
use crate::postfix::Postfix;
use crate::probe;
use crate::report::{Line, Table};
use crate::run::{self, Figures, Load};
use crate::scenarios::{Bench, providers};
use crate::sink::Sink;

const SIZE: usize = 10 << 10;
const SESSIONS: usize = 20;
/// Seconds before those that are measured: a process that has just started is given its memory, which the kernel clears, and
/// for five seconds a worker looks up of every job whether somebody else had it before.
const WARM_UP: usize = 7;
/// What one of Postfix's sessions sends, to look at how long it takes.
const PROBES: usize = 200;
/// A hundred domains of one provider: one set of exchangers, as Postfix's one next hop.
const TO: &str = "d{100}.p0.bench.example";

/// Octets of the disk of their own on which both systems may stand.
const DISK: u64 = 16 << 30;

pub(crate) async fn run(bench: &Bench, nodes: usize, table: &mut Table) -> anyhow::Result<()> {
    if !bench.ordered_disk {
        return compare(bench, nodes, table).await;
    }
    let disk = Disk::new_in(&bench.dir, DISK, Order::Kept);
    let disk = disk.context("make a disk, which takes root")?;
    let bench = Bench {
        dir: disk.store(),
        ..bench.clone()
    };
    compare(&bench, nodes, table).await
}

async fn compare(bench: &Bench, nodes: usize, table: &mut Table) -> anyhow::Result<()> {
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
    let (a_second, measured) = if nodes == 1 {
        (4000, 48_000)
    } else {
        (3000, 30_000)
    };
    cell.warm_up(&sink, &dir, WARM_UP * a_second).await?;
    let load = load(measured / bench.part);
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
    let warm_up = load(WARM_UP * 600);
    let loader = run::smtp_source(postfix.port, SESSIONS, &warm_up);
    run::through(&warm_up, loader, &postfix.pids(), &sink, &dir).await?;
    let (load, probes) = (load(8_000 / bench.part), PROBES / bench.part);
    let loader = Load {
        messages: load.messages - probes,
        ..load.clone()
    };
    let loader = run::smtp_source(postfix.port, SESSIONS - 1, &loader);
    let pids = postfix.pids();
    let (figures, p99) = tokio::try_join!(
        run::through(&load, loader, &pids, &sink, &dir),
        probe::p99(postfix.port, probes, SIZE),
    )?;
    postfix.stop().await?;
    sink.stop().await?;
    Ok(Figures {
        p99_ms: Some(p99),
        ..figures
    })
}
