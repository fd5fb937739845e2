//! `postrider verify`: holds what was accepted against what became of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use api::v1::watch_request::Start;
use api::v1::{EventKind, WatchRequest};
use clap::Args;

use crate::books::Books;
use crate::client::{ApiClient, ServerArgs, report};

/// Silence after which the events are taken to be read.
const QUIET: Duration = Duration::from_secs(2);
/// Examples printed of each fault.
const EXAMPLES: usize = 10;

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
    let mut books = Books::default();
    while let Ok(next) = tokio::time::timeout(QUIET, events.message()).await {
        let event = match next {
            Ok(Some(response)) => response.event,
            Ok(None) => break,
            Err(status) => return Ok(report(&args.server.server, &status)),
        };
        let Some(event) = event else { continue };
        if event.kind() == EventKind::Accepted {
            books.accepted(&event.job_id, &event.message_id, &event.recipient);
        }
        books.happened(event);
    }
    let (duplicates, faults) = match &args.ledger {
        Some(ledger) => {
            let reconciliation = books.reconcile(ledger)?;
            (reconciliation.duplicates, reconciliation.faults)
        }
        None => (0, books.contradictions().to_vec()),
    };
    print(&books, duplicates, &faults);
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(books: &Books, duplicates: usize, faults: &[String]) {
    let waiting: Vec<_> = books
        .pages()
        .filter(|(_, page)| page.ending.is_none())
        .collect();
    println!("accepted  {}", books.accepted_count());
    println!("ended     {}", books.ended_count());
    println!("waiting   {}", waiting.len());
    for (job, page) in waiting.iter().take(EXAMPLES) {
        println!(
            "  {job}  {}  after {} deferrals",
            page.recipient,
            page.deferrals.len()
        );
    }
    println!("received more than once  {duplicates}");
    println!("faults    {}", faults.len());
    for fault in faults.iter().take(EXAMPLES) {
        println!("  {fault}");
    }
}
