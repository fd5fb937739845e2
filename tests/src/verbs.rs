//! The program's client verbs, run as a person would.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

/// Runs verbs against one server with one key.
#[derive(Debug, Clone)]
pub struct Verbs {
    pub(crate) program: PathBuf,
    pub(crate) server: String,
    pub(crate) key: String,
}

/// What a verb printed.
#[derive(Debug)]
pub struct Printed {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Printed {
    /// The one JSON document on standard output.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("read as JSON: {self:?}"))
    }
}

impl Verbs {
    /// The API key they use.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Runs a verb to its end.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<Printed> {
        let ended = self.command(args).output().await;
        let Output {
            status,
            stdout,
            stderr,
        } = ended.with_context(|| format!("run {args:?}"))?;
        Ok(Printed {
            code: status.code(),
            out: String::from_utf8(stdout).context("read standard output")?,
            err: String::from_utf8(stderr).context("read standard error")?,
        })
    }

    /// A verb that runs until it is dropped; its standard output is piped.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("POSTRIDER_SERVER", &self.server)
            .env("POSTRIDER_API_KEY", &self.key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}
