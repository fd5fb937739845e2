//! A child process that is ended by its pid and never outlives its handle.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{self, Command};

/// A running child process.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: process::Child,
}

impl Child {
    /// Starts `command`, with its output in the file `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open log {}", log.display()))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            process,
        })
    }

    /// What it was started as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it has not been waited for.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .process
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.with_context(|| format!("{} has ended", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// SIGKILL, and waits for the end: what a machine that dies does to it.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.end().await
    }

    /// SIGKILL, and waits for the end, for a handle that something new is put into.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.process
            .kill()
            .await
            .with_context(|| format!("kill {}", self.name))
    }

    /// SIGTERM, and waits for the end; SIGKILL after `patience`.
    pub async fn stop(mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.end_in_order(patience).await
    }

    /// The same, for a handle that something new is put into.
    pub(crate) async fn end_in_order(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        if self.has_ended() {
            return self.process.wait().await.context("read the exit status");
        }
        self.signal(Signal::TERM)?;
        match tokio::time::timeout(patience, self.process.wait()).await {
            Ok(status) => status.with_context(|| format!("wait for {}", self.name)),
            Err(_) => {
                tracing::warn!(name = self.name, "did not end in time, killing it");
                self.process
                    .kill()
                    .await
                    .with_context(|| format!("kill {}", self.name))?;
                self.process.wait().await.context("read the exit status")
            }
        }
    }
}
