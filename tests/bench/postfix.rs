//! Postfix as Debian ships it, as an instance of its own beside the machine's.
//!
//! What differs from the shipped configuration is in its favour, or makes the comparison one of like with like: TLS off
//! on both sides, no name lookups, mail for everybody goes to the sink without DNS, and as many deliveries at once to
//! one destination as it takes to keep up. Its queue is on the same file system as the other system's, and synced
//! before it answers, as shipped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use postrider::local::{Child, free_port};
use tokio::process::Command;

const POSTFIX: &str = "/usr/sbin/postfix";
const STOP: Duration = Duration::from_secs(20);
/// Where Debian keeps the services as shipped.
const MASTER: &str = "/usr/share/postfix/master.cf.dist";
/// What a name lookup inside the queue directory, where most services run, needs to find.
const LOOKUPS: [&str; 4] = ["services", "hosts", "nsswitch.conf", "resolv.conf"];

/// A running instance.
pub(crate) struct Postfix {
    child: Option<Child>,
    etc: PathBuf,
    pub(crate) port: u16,
}

impl Postfix {
    /// Starts one in `dir` that relays everything to `sink` on loopback.
    pub(crate) async fn start(dir: &Path, sink: u16) -> anyhow::Result<Self> {
        let port = free_port()?.port();
        let etc = lay_out(dir, port, sink)?;
        let mut command = Command::new(POSTFIX);
        command.arg("-c").arg(&etc).arg("start-fg");
        let log = dir.join("postfix.log");
        let child = Child::start("postfix", &mut command, &log)?;
        let postfix = Self {
            child: Some(child),
            etc,
            port,
        };
        let listens = super::wait_for_port(port).await;
        listens.with_context(|| format!("start Postfix; see {}", log.display()))?;
        Ok(postfix)
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.child
            .as_ref()
            .and_then(Child::pid)
            .into_iter()
            .collect()
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        order(&self.etc, "stop")?;
        match self.child.take() {
            Some(child) => child.stop(STOP).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Postfix {
    /// Its master leaves the group of the child we know, so that it has to be told.
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = order(&self.etc, "abort")
        {
            eprintln!("Postfix may still run: {error:#}");
        }
    }
}

fn order(etc: &Path, verb: &str) -> anyhow::Result<()> {
    let ordered = std::process::Command::new(POSTFIX)
        .arg("-c")
        .arg(etc)
        .arg(verb)
        .output();
    ordered
        .map(drop)
        .with_context(|| format!("run postfix {verb}"))
}

/// Makes the instance's directories and files, and answers where its configuration is.
fn lay_out(dir: &Path, port: u16, sink: u16) -> anyhow::Result<PathBuf> {
    let (etc, queue, data) = (dir.join("etc"), dir.join("queue"), dir.join("data"));
    for made in [&etc, &data, &queue.join("etc")] {
        std::fs::create_dir_all(made).with_context(|| format!("create {}", made.display()))?;
    }
    let owned = std::process::Command::new("chown")
        .arg("postfix")
        .arg(&data)
        .status();
    ensure!(
        owned.context("run chown")?.success(),
        "cannot give {} to the user postfix; run as root",
        data.display()
    );
    for name in LOOKUPS {
        let from = Path::new("/etc").join(name);
        if from.exists() {
            std::fs::copy(&from, queue.join("etc").join(name))
                .with_context(|| format!("copy {}", from.display()))?;
        }
    }
    let write = |name: &str, text: String| {
        let file = etc.join(name);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    };
    write(
        "main.cf",
        main_cf(&queue, &data, &dir.join("mail.log"), sink),
    )?;
    let shipped = std::fs::read_to_string(MASTER).with_context(|| format!("read {MASTER}"))?;
    write("master.cf", master_cf(&shipped, port))?;
    Ok(etc)
}

/// The shipped settings first, then ours.
fn main_cf(queue: &Path, data: &Path, log: &Path, sink: u16) -> String {
    let (queue, data, log) = (queue.display(), data.display(), log.display());
    format!(
        "smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)\n\
         biff = no\n\
         append_dot_mydomain = no\n\
         readme_directory = no\n\
         compatibility_level = 3.6\n\
         smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination\n\
         mailbox_size_limit = 0\n\
         recipient_delimiter = +\n\
         \n\
         queue_directory = {queue}\n\
         data_directory = {data}\n\
         myhostname = postfix.bench.example\n\
         mydestination =\n\
         maillog_file_prefixes = /\n\
         alias_maps =\n\
         alias_database =\n\
         mynetworks = 127.0.0.0/8\n\
         inet_interfaces = loopback-only\n\
         inet_protocols = ipv4\n\
         relayhost = [127.0.0.1]:{sink}\n\
         smtp_tls_security_level = none\n\
         smtpd_tls_security_level = none\n\
         maillog_file = {log}\n\
         default_destination_concurrency_limit = 50\n"
    )
}

/// The shipped services, with the server on a port of ours.
fn master_cf(shipped: &str, port: u16) -> String {
    let service = |line: &str| {
        let is_server = line.starts_with("smtp ") && line.contains(" inet ");
        if is_server {
            format!("127.0.0.1:{port} inet n - y - - smtpd\n")
        } else {
            format!("{line}\n")
        }
    };
    shipped.lines().map(service).collect()
}
