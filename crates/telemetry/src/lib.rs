//! Starts what an operator watches a process by. Today: logs.
//!
//! Log lines have a constant message and their facts as fields; they go to standard error, as JSON where a
//! machine reads them and as text where a person does. Never logs a message's content.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Text,
}

/// Starts the log of this process; `filter` is a directive list such as "info,delivery=debug".
pub fn start_logs(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("read log filter {filter:?}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .try_init(),
        LogFormat::Text => lines.compact().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error).context("start the log"))
}
