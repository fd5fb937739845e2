//! The verbs and their flags.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::client::{cancel, events, send, status};
use crate::config::{Config, RawConfig, reference};
use crate::{demo, load, serve, verify};

/// Exit code for what a user can put right: a wrong flag, field or configuration.
const EXIT_USAGE: u8 = 2;

/// Self-hosted, high-volume email sending.
#[derive(Debug, Parser)]
#[command(
    name = "postrider",
    version,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Configuration file (TOML). Variables such as POSTRIDER__INGEST__LISTEN override it.
    #[arg(
        long,
        short,
        global = true,
        env = "POSTRIDER_CONFIG",
        value_name = "FILE"
    )]
    config: Option<PathBuf>,

    /// Check the configuration, report every fault and exit.
    #[arg(long, global = true)]
    check_config: bool,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the ingest service: accepts messages over gRPC.
    Ingest,
    /// Run a delivery worker: sends messages over SMTP.
    Delivery,
    /// Run the simulator: plays mailbox providers on loopback, with their DNS.
    Mailsim,
    /// Run every service in one process.
    All(serve::AllArgs),
    /// Submit one message.
    Send(Box<send::SendArgs>),
    /// Show what became of a message or of one recipient's job.
    Status(status::StatusArgs),
    /// Cancel what is not sent yet of a message, or one recipient's job.
    Cancel(cancel::CancelArgs),
    /// Show events as they happen.
    Events(events::EventsArgs),
    /// Send 5,000 messages through a whole cluster on this machine and reconcile the books.
    Demo(demo::DemoArgs),
    /// Submit many messages and measure how fast and how soon they are accepted.
    Load(load::LoadArgs),
    /// Check that every accepted job came to exactly one end, and against the receiver's ledger where there is one.
    Verify(verify::VerifyArgs),
    /// Print the reference of all configuration keys, as Markdown.
    ConfigReference,
}

/// What a build of its own adds to the program.
#[derive(Default)]
pub struct Additions {
    /// What delivery does with each job before it is sent.
    pub hook: Option<Arc<dyn delivery::Hook>>,
}

/// Runs the command line and answers the process's exit code.
pub fn main() -> ExitCode {
    main_with(Additions::default())
}

/// The same, for a build that adds to the program.
pub fn main_with(additions: Additions) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to the parser, and go to standard output.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("error: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, additions)),
        Err(error) => Err(anyhow::Error::new(error).context("start the runtime")),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli, additions: Additions) -> anyhow::Result<ExitCode> {
    if let Some(done) = run_without_config(&cli).await? {
        return Ok(done);
    }
    let loaded =
        runtime::load_config::<RawConfig>(cli.config.as_deref()).and_then(Config::try_from);
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            eprintln!("the configuration is not valid:\n{error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    if cli.check_config {
        println!("the configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::start_logs(config.log.format, &config.log.filter)?;
    match cli.verb {
        Verb::Ingest => serve::ingest(config).await?,
        Verb::Delivery => serve::delivery(config, additions).await?,
        Verb::Mailsim => serve::mailsim(config).await?,
        Verb::All(args) => serve::all(config, args, additions).await?,
        Verb::Send(_)
        | Verb::Status(_)
        | Verb::Cancel(_)
        | Verb::Events(_)
        | Verb::Demo(_)
        | Verb::Load(_)
        | Verb::Verify(_)
        | Verb::ConfigReference => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The verbs that speak to a server and have no configuration of their own; `None` for the others.
async fn run_without_config(cli: &Cli) -> anyhow::Result<Option<ExitCode>> {
    if cli.check_config {
        return Ok(None);
    }
    Ok(Some(match &cli.verb {
        Verb::Send(args) => send::run(args).await?,
        Verb::Status(args) => status::run(args).await?,
        Verb::Cancel(args) => cancel::run(args).await?,
        Verb::Events(args) => events::run(args).await?,
        Verb::Demo(args) => demo::run(args).await?,
        Verb::Load(args) => load::run(args).await?,
        Verb::Verify(args) => verify::run(args).await?,
        Verb::ConfigReference => {
            print!("{}", reference());
            ExitCode::SUCCESS
        }
        Verb::Ingest | Verb::Delivery | Verb::Mailsim | Verb::All(_) => return Ok(None),
    }))
}
