//! `make bench`: Postrider beside Postfix, on the same machine, in the same run, into the same sink.
//!
//! Each scenario is run several times, the systems taking turns, and told by its medians: one run says little on a
//! machine that does other things. Measures and judges nothing; docs/performance.md says how to read the figures.

mod cell;
mod distance;
mod hosts;
mod postfix;
mod probe;
mod report;
mod run;
mod scenarios;
mod sink;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use self::report::Table;
use self::scenarios::{Bench, Scenario};

const START: Duration = Duration::from_secs(60);

/// Flags of `bench`.
#[derive(Debug, Parser)]
struct Args {
    /// Fewer and shorter runs: for a first look, and not for figures.
    #[arg(long)]
    quick: bool,

    /// Only these scenarios; repeat it for more.
    #[arg(long, value_enum)]
    only: Vec<Scenario>,

    /// Leave Postfix out: for work on Postrider, and not for figures.
    #[arg(long)]
    alone: bool,

    /// Put all that is beside Postfix on an ext4 of its own, mounted with nodelalloc as copies need it (ADR 28). It stands in a
    /// file behind a loop device, which costs something as well.
    #[arg(long)]
    ordered_disk: bool,

    /// Runs of each scenario.
    #[arg(long, default_value_t = 3)]
    runs: usize,

    /// Where the systems keep their data while they run, and where the results go.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match bench(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(args: Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("create {}", args.dir.display()))?;
    let bench = Bench {
        dir: args.dir.clone(),
        runs: if args.quick { 1 } else { args.runs.max(1) },
        part: if args.quick { 4 } else { 1 },
        alone: args.alone,
        ordered_disk: args.ordered_disk,
    };
    let mut table = Table::default();
    for scenario in Scenario::all(&args.only) {
        let ended = scenario.run(&bench, &mut table).await;
        ended.with_context(|| format!("scenario {scenario:?}"))?;
        // After each, so that a run that is cut short has shown and stored what it knows.
        table.store(&args.dir.join("throughput.json"))?;
    }
    println!("{table}");
    Ok(())
}

/// The program under test, beside this one.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let program = own.with_file_name("postrider");
    if !program.is_file() {
        bail!("{} is not built; run `make bench-tools`", program.display());
    }
    Ok(program)
}

/// The nats-server that `make tools` installs.
pub(crate) fn nats_server() -> anyhow::Result<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let server = checkout.join(".tools/bin/nats-server");
    server
        .canonicalize()
        .with_context(|| format!("find {}; run `make tools`", server.display()))
}

/// Waits until something on loopback listens at `port`.
pub(crate) async fn wait_for_port(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens at port {port} of loopback");
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
