//! Where all mail ends: Postfix's `smtp-sink`, the same for every system, which throws away what it takes and counts it; where
//! thousands of hosts have connections of their own, [`Hosts`].

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use postrider::local::{Child, free_port};
use tests::meter;
use tokio::process::Command;

use crate::hosts::Hosts;

/// A running sink; listens at every loopback address.
pub(crate) struct Sink {
    kind: Kind,
    pub(crate) port: u16,
}

enum Kind {
    Postfix { child: Child, counts: PathBuf },
    Hosts(Hosts),
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
        let kind = Kind::Postfix { child, counts };
        Ok(Self { kind, port })
    }

    /// Starts one that bears thousands of connections.
    pub(crate) async fn of_many_hosts() -> anyhow::Result<Self> {
        let hosts = Hosts::start().await?;
        let port = hosts.port;
        let kind = Kind::Hosts(hosts);
        Ok(Self { kind, port })
    }

    /// Messages taken so far.
    pub(crate) fn count(&self) -> anyhow::Result<usize> {
        match &self.kind {
            Kind::Postfix { counts, .. } => last_count(counts),
            Kind::Hosts(hosts) => Ok(hosts.count()),
        }
    }

    /// CPU time it has used; many hosts are part of this process.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        match &self.kind {
            Kind::Postfix { child, .. } => meter::cpu(child.pid().as_slice()),
            Kind::Hosts(_) => meter::cpu_of_this(),
        }
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.kind {
            Kind::Postfix { child, .. } => child.kill().await,
            Kind::Hosts(hosts) => {
                hosts.stop().await;
                Ok(())
            }
        }
    }
}

/// What `smtp-sink` has counted. The file's last line is "sess=1 quit=0 mesg=17".
fn last_count(counts: &Path) -> anyhow::Result<usize> {
    let mut file = File::open(counts).context("open the sink's counts")?;
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
