//! `postrider status`: what became of a message.

use std::process::ExitCode;

use api::v1::{GetRequest, GetResponse, JobState};
use clap::Args;
use serde_json::json;

use super::api_client::{ApiClient, report};
use super::args::{Output, ServerArgs};
use super::json::{event_to_json, short, time};
use super::text::event_line;

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Message id or job id, as `send` printed it.
    id: String,

    /// How to print the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// Prints every recipient's state and history. Exit codes: 0 found, 2 unknown.
pub async fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.server)?;
    match client
        .messages()
        .get(GetRequest {
            id: args.id.clone(),
        })
        .await
    {
        Ok(response) => {
            print(&response.into_inner(), args.output);
            Ok(ExitCode::SUCCESS)
        }
        Err(status) => Ok(report(&args.server.server, &status)),
    }
}

fn print(response: &GetResponse, output: Output) {
    match output {
        Output::Json => println!("{}", to_json(response)),
        Output::Text => {
            println!("message {}", response.message_id);
            for job in &response.jobs {
                println!(
                    "\n{}  {}  (job {})",
                    job.recipient,
                    state(job.state),
                    job.job_id
                );
                for event in &job.events {
                    println!("  {}", event_line(event));
                }
            }
        }
    }
}

fn to_json(response: &GetResponse) -> serde_json::Value {
    let jobs = response.jobs.iter().map(|job| {
        json!({
            "job_id": job.job_id,
            "recipient": job.recipient,
            "state": state(job.state),
            "next_attempt_at": time(job.next_attempt_at.as_ref()),
            "events": job.events.iter().map(event_to_json).collect::<Vec<_>>(),
        })
    });
    json!({ "message_id": response.message_id, "jobs": jobs.collect::<Vec<_>>() })
}

fn state(number: i32) -> String {
    short(
        JobState::try_from(number).unwrap_or_default().as_str_name(),
        "JOB_STATE_",
    )
}
