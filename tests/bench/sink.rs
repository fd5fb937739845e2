//! Where all mail ends: Postfix's `smtp-sink`, the same for every system, which throws away what it takes and counts it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use postrider::local::{Child, free_port};
use tokio::process::Command;

/// A running sink; listens at every loopback address.
pub(crate) struct Sink {
    child: Child,
    counts: PathBuf,
    pub(crate) port: u16,
}

impl Sink {
    /// Starts one whose counts stand in `dir`.
    pub(crate) async fn start(dir: &Path) -> anyhow::Result<Self> {
        let port = free_port()?.port();
        let counts = dir.join("sink.log");
        let mut command = Command::new("/usr/sbin/smtp-sink");
        // As root it wants another user to become. It plays thousands of hosts, each with connections of its own.
        command.args(["-c", "-u", "nobody", "-m", "15000"]);
        command.arg(format!("0.0.0.0:{port}")).arg("1000");
        let child = Child::start("smtp-sink", &mut command, &counts)?;
        super::wait_for_port(port).await?;
        Ok(Self {
            child,
            counts,
            port,
        })
    }

    /// Messages taken so far. The file's last line is "sess=1 quit=0 mesg=17".
    pub(crate) fn count(&self) -> anyhow::Result<usize> {
        let mut file = File::open(&self.counts).context("open the sink's counts")?;
        let length = file.metadata().context("measure the sink's counts")?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(200)))
            .context("read the sink's counts")?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .context("read the sink's counts")?;
        let complete = text.rsplit_once('\r').map_or("", |(complete, _)| complete);
        let count = complete.rsplit_once("mesg=").map(|(_, count)| count.trim());
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.child.pid().into_iter().collect()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.child.kill().await
    }
}
