//! One measured run: load goes in, the sink counts what comes out, and the kernel counts what that cost.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use postrider::local::Child;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::cell::{Cell, KEY};
use crate::sink::Sink;
use tests::meter;

/// How long a run may take.
const DEADLINE: Duration = Duration::from_secs(240);
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(500);
/// Below this part of a core a system has nothing left to do.
const IDLE: f64 = 0.1;

/// What a load asks for.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    pub(crate) messages: usize,
    /// Octets of one.
    pub(crate) size: usize,
    /// `--to` of `postrider load`.
    pub(crate) to: &'a str,
    /// Further flags of `postrider load`.
    pub(crate) flags: &'a [&'a str],
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// From the start of the load to the last message in the sink.
    pub(crate) msgs_per_s: f64,
    pub(crate) cpu_s_per_1000: f64,
    pub(crate) rss_mb: f64,
    /// To the durable answer.
    pub(crate) p99_ms: Option<f64>,
    pub(crate) accepted_per_s: Option<f64>,
    pub(crate) loader_cpu_s_per_1000: f64,
    pub(crate) sink_cpu_s_per_1000: f64,
}

/// Sends `load` with `loader` through the processes `system` into `sink`.
pub(crate) async fn through(
    load: &Load<'_>,
    mut loader: Command,
    system: &[u32],
    sink: &Sink,
    dir: &Path,
) -> anyhow::Result<Figures> {
    let before = sink.count()?;
    let wanted = before + load.messages;
    let (system_before, sink_before) = (meter::cpu(system)?, sink.cpu()?);
    let ended_before = meter::cpu_of_ended()?;
    let output = dir.join("load.log");
    let _ = std::fs::remove_file(&output);
    let began = Instant::now();
    let mut loader = Child::start("load", &mut loader, &output)?;
    let mut sampled = began;
    let mut memory: f64 = 0.0;
    while sink.count()? < wanted {
        if began.elapsed() > DEADLINE {
            bail!(
                "{} of {} messages are in the sink after {DEADLINE:?}; see the logs in {}",
                sink.count()? - before,
                load.messages,
                dir.display()
            );
        }
        if sampled.elapsed() > SAMPLE {
            sampled = Instant::now();
            memory = memory.max(meter::memory_mb(system)?);
        }
        sleep(Duration::from_millis(2)).await;
    }
    let took = began.elapsed().as_secs_f64();
    while !loader.has_ended() {
        ensure!(began.elapsed() < DEADLINE, "the loader does not end");
        sleep(Duration::from_millis(2)).await;
    }
    settle(system).await?;
    let printed = std::fs::read_to_string(&output).unwrap_or_default();
    let report = report(&printed);
    let thousands = load.messages as f64 / 1000.0;
    let cost = |after: Duration, before: Duration| (after - before).as_secs_f64() / thousands;
    Ok(Figures {
        msgs_per_s: load.messages as f64 / took,
        cpu_s_per_1000: cost(meter::cpu(system)?, system_before),
        rss_mb: memory,
        p99_ms: report
            .as_ref()
            .and_then(|r| r["latency_ms"]["p99"].as_f64()),
        accepted_per_s: report.as_ref().and_then(|r| r["msgs_per_s"].as_f64()),
        loader_cpu_s_per_1000: cost(meter::cpu_of_ended()?, ended_before),
        sink_cpu_s_per_1000: cost(sink.cpu()?, sink_before),
    })
}

/// The loader of Postrider: 20 streams, each a connection.
pub(crate) fn postrider_load(cell: &Cell, load: &Load<'_>) -> anyhow::Result<Command> {
    let mut command = Command::new(crate::program()?);
    command.args(["load", "--output", "json", "--streams", "20"]);
    command.args(["--server", &cell.url(), "--api-key", KEY]);
    command.args(["--messages", &load.messages.to_string()]);
    command.args(["--size", &load.size.to_string(), "--to", load.to]);
    command.args(load.flags);
    Ok(command)
}

/// The loader of Postfix: its own, with so many sessions at once, each message over a connection of its own.
pub(crate) fn smtp_source(port: u16, sessions: usize, load: &Load<'_>) -> Command {
    let mut command = Command::new("/usr/sbin/smtp-source");
    command.args(["-N", "-s", &sessions.to_string(), "-f", "load@load.example"]);
    command.args(["-m", &load.messages.to_string()]);
    command.args(["-l", &load.size.to_string()]);
    command.args(["-t", "load@p0.bench.example"]);
    command.arg(format!("127.0.0.1:{port}"));
    command
}

/// Waits until what is left to do after the last message is done: its CPU time counts as well.
pub(crate) async fn settle(system: &[u32]) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = meter::cpu(system)?;
    loop {
        let pause = Duration::from_millis(500);
        sleep(pause).await;
        let now = meter::cpu(system)?;
        let is_idle = (now - last).as_secs_f64() < IDLE * pause.as_secs_f64();
        if is_idle || Instant::now() > deadline {
            return Ok(());
        }
        last = now;
    }
}

/// The JSON that `postrider load` prints last.
pub(crate) fn report(printed: &str) -> Option<Value> {
    printed
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
}

/// Runs a loader to its end and answers its report, for scenarios that do not look at the sink.
pub(crate) async fn load_only(mut loader: Command, dir: &Path) -> anyhow::Result<Value> {
    let output = dir.join("load.log");
    let _ = std::fs::remove_file(&output);
    let began = Instant::now();
    let mut loader = Child::start("load", &mut loader, &output)?;
    while !loader.has_ended() {
        ensure!(began.elapsed() < DEADLINE, "the loader does not end");
        sleep(Duration::from_millis(5)).await;
    }
    let printed = std::fs::read_to_string(&output).context("read the loader's report")?;
    report(&printed).with_context(|| format!("the loader printed no report: {printed}"))
}
