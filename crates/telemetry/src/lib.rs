//! Starts what an operator watches a process by. Today: logs, and what tokio-console shows.
//!
//! Log lines have a constant message and their facts as fields; they go to standard error, as JSON where a
//! machine reads them and as text where a person does. Never logs a message's content.

use anyhow::Context as _;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

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
    let started = watched(lines(format), filter).try_init();
    started.map_err(|error| anyhow::anyhow!(error).context("start the log"))
}

/// What writes the lines.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .boxed(),
        LogFormat::Text => lines.compact().boxed(),
    }
}

/// The lines that `filter` lets pass.
#[cfg(not(feature = "tokio-console"))]
fn watched(
    lines: Box<dyn Layer<tracing_subscriber::layer::Layered<EnvFilter, Registry>> + Send + Sync>,
    filter: EnvFilter,
) -> impl Subscriber {
    Registry::default().with(filter).with(lines)
}

/// The lines that `filter` lets pass, and beside them, unfiltered, what every task does: tokio-console asks for it at
/// port 6669 of loopback, or where `TOKIO_CONSOLE_BIND` says.
#[cfg(feature = "tokio-console")]
fn watched(lines: Box<dyn Layer<Registry> + Send + Sync>, filter: EnvFilter) -> impl Subscriber {
    let tasks = console_subscriber::ConsoleLayer::builder()
        .with_default_env()
        .spawn();
    Registry::default()
        .with(lines.with_filter(filter))
        .with(tasks)
}
