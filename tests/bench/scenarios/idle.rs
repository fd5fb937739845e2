//! One message at a time through a system that has nothing else to do: from the call to the sink.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::SubmitRequest;
use api::v1::submit_request::Content;
use tests::Api;
use tokio::time::{Instant, sleep};

use crate::cell::{Cell, KEY, Layout};
use crate::report::{Line, Table};
use crate::scenarios::{Bench, WARM_UP, providers};
use crate::sink::Sink;
use tests::meter::{self, quantile};

const MESSAGES: usize = 500;
const SIZE: usize = 10 << 10;
/// Between two messages: nothing of one is left when the next comes.
const PAUSE: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(10);

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
    let api = Api::anonymous(&cell.url())?.with_key(KEY)?;
    let (mut accepted, mut arrived) = (Vec::new(), Vec::new());
    for number in 0..MESSAGES / bench.part {
        let (answer, arrival) = one(&api, &sink, number).await?;
        accepted.push(answer.as_secs_f64() * 1000.0);
        arrived.push(arrival.as_secs_f64() * 1000.0);
        sleep(PAUSE).await;
    }
    let mut line = Line::new("idle, one message", "postrider", 1);
    line.p99_ms = Some(quantile(&mut arrived, 0.99));
    line.rss_mb = Some(meter::memory_mb(&cell.pids())?);
    line.more = vec![
        ("p50_ms", quantile(&mut arrived, 0.5)),
        ("max_ms", quantile(&mut arrived, 1.0)),
        ("accepted_p50_ms", quantile(&mut accepted, 0.5)),
        ("accepted_p99_ms", quantile(&mut accepted, 0.99)),
        ("idle_cores", idle_cores(&cell).await?),
    ];
    table.add(line);
    cell.check()?;
    cell.stop().await?;
    sink.stop().await
}

/// One message, from the call to its answer and to its arrival.
async fn one(api: &Api, sink: &Sink, number: usize) -> anyhow::Result<(Duration, Duration)> {
    let mut raw = b"From: idle@load.example\r\nSubject: idle\r\n\r\n".to_vec();
    raw.extend(b"A line of a message.\r\n".iter().cycle().take(SIZE));
    raw.extend(b"\r\n");
    let request = SubmitRequest {
        recipients: vec![format!("idle{number}@p0.bench.example")],
        content: Some(Content::Raw(raw.into())),
        ..SubmitRequest::default()
    };
    let before = sink.count()?;
    let began = Instant::now();
    api.submit(request).await.context("submit a message")?;
    let answered = began.elapsed();
    while sink.count()? == before {
        ensure!(began.elapsed() < PATIENCE, "a message does not arrive");
        // A timer of tokio's would be a millisecond late.
        tokio::task::yield_now().await;
    }
    Ok((answered, began.elapsed()))
}

/// What everything together uses while nothing happens, in cores.
async fn idle_cores(cell: &Cell) -> anyhow::Result<f64> {
    let span = Duration::from_secs(5);
    sleep(Duration::from_secs(2)).await;
    let before = meter::cpu(&cell.pids())?;
    sleep(span).await;
    let used = meter::cpu(&cell.pids())? - before;
    Ok(used.as_secs_f64() / span.as_secs_f64())
}
