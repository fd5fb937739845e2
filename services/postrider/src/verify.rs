//! `postrider verify`: holds what was accepted against what became of it, however much that is.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use api::v1::WatchRequest;
use api::v1::watch_request::Start;
use clap::Args;

use crate::client::{ApiClient, ServerArgs, report};
use crate::reconcile::{Reconciler, Reconciliation};

/// Silence after which the events are taken to be read.
const QUIET: Duration = Duration::from_secs(2);

/// Flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Read events from this time on: 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: jiff::Timestamp,

    /// The receiver's ledger, one JSON object a line, as the simulator writes it. Complete from `--since` on.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// Prints the balance and the first counterexamples. Exit codes: 0 balanced, 1 not.
pub(crate) async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.server)?;
    let start = Some(Start::Since(api::timestamp_to_wire(args.since)));
    let watched = client
        .messages()
        .watch(WatchRequest {
            start,
            ..WatchRequest::default()
        })
        .await;
    let mut events = match watched {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(report(&args.server.server, &status)),
    };
    let mut books = Reconciler::default();
    while let Ok(next) = tokio::time::timeout(QUIET, events.message()).await {
        match next {
            Ok(Some(response)) => {
                if let Some(event) = response.event {
                    books.happened(&event)?;
                }
            }
            Ok(None) => break,
            Err(status) => return Ok(report(&args.server.server, &status)),
        }
    }
    if let Some(ledger) = &args.ledger {
        books.received(ledger)?;
    }
    let reconciliation = books.finish()?;
    print(&reconciliation);
    Ok(if reconciliation.faults.count == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(reconciliation: &Reconciliation) {
    let Reconciliation {
        accepted,
        ended,
        waiting,
        duplicates,
        faults,
    } = reconciliation;
    println!("accepted  {accepted}");
    println!("ended     {ended}");
    println!("waiting   {}", waiting.count);
    for job in &waiting.examples {
        println!("  {job}");
    }
    println!("received more than once  {duplicates}");
    println!("faults    {}", faults.count);
    for fault in &faults.examples {
        println!("  {fault}");
    }
}
