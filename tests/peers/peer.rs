//! A mail server of somebody else's, as a process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use postrider::local::Child;
use tests::{canonical, eventually};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::files;

const START: Duration = Duration::from_secs(20);
const KEEP: Duration = Duration::from_secs(300);
const STOP: Duration = Duration::from_secs(10);
/// How messages begin. What stands before it is the peer's.
const BEGINNING: &[u8] = b"From: ann@acme.example\r\n";

/// Where the peer called `name` listens.
pub(crate) fn address(name: &str) -> IpAddr {
    let last = match name {
        "postfix" => 1,
        "exim" => 2,
        "opensmtpd" => 3,
        _ => 4,
    };
    Ipv4Addr::new(127, 0, 2, last).into()
}

pub(crate) struct Peer {
    socket: SocketAddr,
    dir: PathBuf,
    process: Child,
}

impl Peer {
    /// Starts the peer called `name` on `port`, or on a free one where that is 0, with all it writes in `dir`.
    pub(crate) async fn start(name: &str, dir: &Path, port: u16) -> anyhow::Result<Self> {
        let free =
            TcpListener::bind(SocketAddr::new(address(name), port)).context("find a port")?;
        let socket = free.local_addr()?;
        drop(free);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/peer.sh");
        let mut command = Command::new(script);
        command.arg(name).arg(dir.join("peer"));
        command
            .arg(socket.ip().to_string())
            .arg(socket.port().to_string());
        // The accounts that the server changes to must reach what is theirs.
        set_open(dir)?;
        let process = Child::start(name, &mut command, &dir.join("log"))?;
        let peer = Self {
            socket,
            dir: dir.to_owned(),
            process,
        };
        eventually(&format!("{name} listens"), START, async || {
            Ok(TcpStream::connect(socket).await.ok().map(drop))
        })
        .await
        .with_context(|| peer.log())?;
        Ok(peer)
    }

    pub(crate) fn socket(&self) -> SocketAddr {
        self.socket
    }

    /// Waits until it has written `text`.
    pub(crate) async fn logs(&self, text: &str) -> anyhow::Result<()> {
        let what = format!("{text:?} stands in the log");
        eventually(&what, KEEP, async || {
            Ok(self.whole_log().contains(text).then_some(()))
        })
        .await
    }

    /// What it wrote last.
    pub(crate) fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn whole_log(&self) -> String {
        let text = std::fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The messages in its mailbox, without what it put before them, once there are `count` or more.
    pub(crate) async fn kept(&self, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let new = self.dir.join("peer/box/new");
        let found = eventually(&format!("{count} messages are kept"), KEEP, async || {
            let found = files(&new)?;
            Ok((found.len() >= count).then_some(found))
        })
        .await?;
        found
            .iter()
            .map(|file| message(&std::fs::read(file)?))
            .collect()
    }

    /// Ends it, and all that it started.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let _: ExitStatus = self.process.stop(STOP).await?;
        Ok(())
    }
}

/// What a mailbox file holds, with the line ends of SMTP.
fn message(file: &[u8]) -> anyhow::Result<Vec<u8>> {
    ensure!(!file.is_empty(), "an empty message");
    let lines = canonical(file);
    let begins = lines
        .windows(BEGINNING.len())
        .position(|at| at == BEGINNING);
    let begins =
        begins.with_context(|| format!("without a beginning: {}", lines.escape_ascii()))?;
    Ok(lines[begins..].to_vec())
}

fn set_open(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let everyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir, everyone).context("open the directory")
}
