//! `postrider cancel`: cancels what is not sent yet.

use std::process::ExitCode;

use api::v1::CancelRequest;
use clap::Args;
use serde_json::json;

use super::api_client::{ApiClient, report};
use super::args::{Output, ServerArgs};

/// Flags of `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Message id or job id, as `send` printed it.
    id: String,

    /// How to print the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// Asks for the cancellation. Exit codes: 0 asked, 2 unknown, 75 try again later.
pub async fn run(args: &CancelArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.server)?;
    let cancelled = client
        .messages()
        .cancel(CancelRequest {
            id: args.id.clone(),
        })
        .await;
    let response = match cancelled {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(report(&args.server.server, &status)),
    };
    match args.output {
        Output::Json => println!(
            "{}",
            json!({
                "cancelling_job_ids": response.cancelling_job_ids,
                "ended_job_ids": response.ended_job_ids,
            })
        ),
        Output::Text => {
            for job in &response.cancelling_job_ids {
                println!("cancelling {job}");
            }
            for job in &response.ended_job_ids {
                println!("ended before {job}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
