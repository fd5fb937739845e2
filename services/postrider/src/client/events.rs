//! `postrider events`: shows events as they happen.

use std::process::ExitCode;

use api::v1::watch_request::Start;
use api::v1::{EventKind, WatchRequest, WatchResponse};
use clap::Args;

use super::api_client::{ApiClient, report};
use super::args::{Output, ServerArgs};
use super::json::event_to_json;
use super::text::event_line;

/// Flags of `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Only events of this message or job.
    #[arg(long)]
    id: Option<String>,

    /// Only this kind: accepted, deferred, delivered, bounced, expired, quarantined, cancelled; repeat it for more.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Vec<EventKind>,

    /// Begin at this time instead of now: 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "after")]
    since: Option<jiff::Timestamp>,

    /// Begin behind this cursor, as JSON output shows it.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,

    /// How to print an event.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

fn kind(text: &str) -> Result<EventKind, String> {
    let known = EventKind::from_str_name(&format!("EVENT_KIND_{}", text.to_ascii_uppercase()));
    known.ok_or_else(|| {
        "use accepted, deferred, delivered, bounced, expired, quarantined or cancelled".to_owned()
    })
}

/// Prints events until it is interrupted or the server ends the call.
pub async fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let start = match (&args.after, args.since) {
        (Some(cursor), _) => Some(Start::AfterCursor(cursor.clone())),
        (None, Some(time)) => Some(Start::Since(api::timestamp_to_wire(time))),
        (None, None) => None,
    };
    let request = WatchRequest {
        id: args.id.clone().unwrap_or_default(),
        kinds: args.kind.iter().map(|kind| (*kind).into()).collect(),
        start,
    };
    let client = ApiClient::new(&args.server)?;
    let watched = client.messages().watch(request).await;
    let mut events = match watched {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(report(&args.server.server, &status)),
    };
    loop {
        match events.message().await {
            Ok(Some(response)) => print(&response, args.output),
            Ok(None) => return Ok(ExitCode::SUCCESS),
            Err(status) => return Ok(report(&args.server.server, &status)),
        }
    }
}

fn print(response: &WatchResponse, output: Output) {
    let Some(event) = &response.event else { return };
    match output {
        Output::Text => println!("{:<40} {}", event.recipient, event_line(event)),
        Output::Json => {
            let mut value = event_to_json(event);
            value["cursor"] = response.cursor.clone().into();
            println!("{value}");
        }
    }
}
