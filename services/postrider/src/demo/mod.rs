//! `postrider demo`: a whole cluster on this machine, real mail through it, and the books reconciled at the end.

mod balance;
mod progress;
mod traffic;
mod world;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::v1::{WatchRequest, WatchResponse};
use clap::Args;
use runtime::{Shutdown, Tasks};

use self::progress::Progress;
use self::world::{TENANTS, world};
use crate::books::Books;
use crate::client::{ApiClient, ServerArgs};
use crate::local::{Stack, StackOptions};

/// How long every message may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(170);
const REFRESH: Duration = Duration::from_millis(200);
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Messages to send.
    #[arg(long, default_value_t = 5000)]
    messages: usize,

    /// Delivery workers.
    #[arg(long, default_value_t = 1)]
    workers: usize,

    /// Kill one worker (SIGKILL) in the middle.
    #[arg(long, requires = "workers")]
    kill: bool,

    /// Keep the logs and the ledger in this directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<std::path::PathBuf>,
}

/// Runs the demo. Exit code 0 only if the books balance.
pub async fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    let tasks = Tasks::new(shutdown.clone());
    let (dir, _temporary) = directory(args)?;
    let mut stack = start(args, dir).await?;
    let outcome = tokio::select! {
        outcome = send_and_watch(args, &mut stack, &tasks) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    shutdown.request();
    let ledger = stack.ledger();
    let stopped = stack.stop().await;
    let _ = tasks.finish(LAST_WORDS).await;
    let books = outcome?;
    stopped.context("stop the cluster")?;
    let balance = balance::balance(books, args.messages, &ledger)?;
    print!("{balance}");
    Ok(if balance.is_balanced() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The directory everything is kept in, and what deletes it at the end unless it is to be kept.
fn directory(args: &DemoArgs) -> anyhow::Result<(std::path::PathBuf, Option<tempfile::TempDir>)> {
    if let Some(dir) = &args.keep {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        return Ok((dir.canonicalize().context("find --keep")?, None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("postrider-demo-")
        .tempdir()
        .context("make a directory")?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

async fn start(args: &DemoArgs, dir: std::path::PathBuf) -> anyhow::Result<Stack> {
    eprintln!(
        "starting NATS, Redis, the simulator, ingest and {} worker(s) ...",
        args.workers
    );
    let program = std::env::current_exe().context("find this program")?;
    let tenants = TENANTS.map(str::to_owned).into();
    let mut stack = Stack::start(StackOptions {
        program,
        dir,
        tenants,
        config: world(),
    })
    .await?;
    stack.start_ingest().await?;
    for number in 1..=args.workers {
        stack.start_worker(&worker(number))?;
    }
    Ok(stack)
}

fn worker(number: usize) -> String {
    format!("worker-{number}")
}

/// Submits everything while the books are kept from the events, until every message has ended.
async fn send_and_watch(
    args: &DemoArgs,
    stack: &mut Stack,
    tasks: &Tasks,
) -> anyhow::Result<Books> {
    let clients = clients(stack)?;
    let (events, mut incoming) = tokio::sync::mpsc::channel(1024);
    for client in &clients {
        watch(client, events.clone(), tasks).await?;
    }
    let (accepted, mut submitted) = tokio::sync::mpsc::channel(1024);
    tasks.spawn("submit", traffic::submit(clients, args.messages, accepted));

    let mut books = Books::default();
    let mut progress = Progress::new(args.messages, std::io::stderr().is_terminal());
    let mut refresh = tokio::time::interval(REFRESH);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut to_kill = args.kill.then(|| worker(args.workers));
    while !(books.accepted_count() == args.messages && books.ended_count() == args.messages) {
        tokio::select! {
            Some(job) = submitted.recv() => {
                let job = job?;
                books.accepted(&job.job_id, &job.message_id, &job.recipient);
            },
            Some(event) = incoming.recv() => {
                if let Some(event) = event?.event {
                    books.happened(event)?;
                }
            },
            _ = refresh.tick() => progress.show(&books),
            () = tokio::time::sleep_until(deadline) => break,
        }
        if books.ended_count() > args.messages / 4
            && let Some(name) = to_kill.take()
        {
            stack.take(&name)?.kill().await?;
            progress.note(&format!("{name} killed with SIGKILL"));
        }
        if let Some(name) = stack.first_ended() {
            bail!("{name} ended unexpectedly; run with --keep DIR and see its log");
        }
    }
    progress.finish(&books);
    Ok(books)
}

fn clients(stack: &Stack) -> anyhow::Result<Vec<ApiClient>> {
    let client = |key: &String| {
        ApiClient::new(&ServerArgs {
            server: stack.url(),
            api_key: key.clone(),
        })
    };
    stack.keys().iter().map(client).collect()
}

/// Passes one tenant's events on, from the beginning.
async fn watch(
    client: &ApiClient,
    events: tokio::sync::mpsc::Sender<anyhow::Result<WatchResponse>>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let watched = client
        .messages()
        .watch(WatchRequest::default())
        .await
        .context("watch events")?;
    let mut watched = watched.into_inner();
    tasks.spawn("watch", async move {
        while let Some(event) = watched.message().await.transpose() {
            if events.send(event.context("watch events")).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
