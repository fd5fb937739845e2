//! The clients, each as fast as it goes over one connection.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use model::SystemClock;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::{ClockId, clock_gettime};
use smtp::client::{
    Content, Envelope, Framing, HostName, Options, Outcome, Session, TlsMode, TlsSettings,
    Transaction,
};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::report::Cost;

/// Octets of a message.
const SIZE: usize = 10_000;
const SENDER: &str = "ann@a.example";
const RECIPIENT: &str = "bob@b.example";

/// Who sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    /// This engine, the next envelope behind each final dot.
    Postrider,
    /// This engine, each message in one chunk.
    Chunking,
    /// `AsyncSmtpConnection` on a socket with TCP_NODELAY, which it does not set itself.
    Lettre,
    /// Postfix's load generator, with one session.
    SmtpSource,
}

impl Client {
    pub(crate) const ALL: [Self; 4] = [
        Self::Postrider,
        Self::Chunking,
        Self::Lettre,
        Self::SmtpSource,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postrider => "postrider",
            Self::Chunking => "by BDAT",
            Self::Lettre => "lettre 0.11",
            Self::SmtpSource => "smtp-source",
        }
    }

    /// Sends `messages` to `sink` over one connection.
    pub(crate) fn send(self, sink: SocketAddr, messages: u32) -> anyhow::Result<Cost> {
        match self {
            Self::Postrider => postrider(sink, messages, Framing::Data),
            Self::Chunking => postrider(sink, messages, Framing::Chunking),
            Self::Lettre => lettre(sink, messages),
            Self::SmtpSource => smtp_source(sink, messages),
        }
    }
}

/// A header, and text of 76 octets a line, of which one begins with a dot.
fn message() -> Vec<u8> {
    let header = format!(
        "From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: benchmark\r\nMessage-ID: <1@a.example>\r\n\r\n"
    );
    let mut message = header.into_bytes();
    message.extend_from_slice(b".a line that begins with a dot\r\n");
    while message.len() + 78 <= SIZE {
        message.extend_from_slice(&[b'x'; 76]);
        message.extend_from_slice(b"\r\n");
    }
    message
}

fn postrider(sink: SocketAddr, messages: u32, framing: Framing) -> anyhow::Result<Cost> {
    let settings = TlsSettings::new(Arc::new(SystemClock), [])?;
    let mut options = Options::new("client.example".parse()?, settings);
    options.tls = TlsMode::Off;
    options.framing = framing;
    let (sender, recipient) = (SENDER.parse()?, RECIPIENT.parse()?);
    let message = message();
    let chunks = [&message[..]];
    let envelope = || -> anyhow::Result<Envelope> {
        let facts = Content::new(&chunks)?.facts();
        let sender = Some(Clone::clone(&sender));
        Ok(Envelope::new(sender, Clone::clone(&recipient), facts))
    };
    let runtime = runtime()?;
    let mut session = runtime.block_on(async {
        let stream = connect(sink).await?;
        let peer = HostName::from(sink.ip());
        anyhow::Ok(Session::open(stream, &peer, &options).await?)
    })?;
    let cost = measure(&runtime, messages, async {
        let mut this = envelope()?;
        for sent in 1..=messages {
            let next = if sent < messages {
                Some(envelope()?)
            } else {
                None
            };
            let content = Content::new(&chunks)?;
            let transaction = Transaction {
                envelope: &this,
                content: &content,
            };
            let outcome = session.send(&transaction, next.as_ref(), &|| true).await?;
            anyhow::ensure!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
            this = next.unwrap_or(this);
        }
        Ok(())
    })?;
    runtime.block_on(session.quit());
    Ok(cost)
}

fn lettre(sink: SocketAddr, messages: u32) -> anyhow::Result<Cost> {
    let envelope = lettre::address::Envelope::new(Some(SENDER.parse()?), vec![RECIPIENT.parse()?])?;
    let message = message();
    let runtime = runtime()?;
    let mut connection = runtime.block_on(async {
        let stream = Box::new(connect(sink).await?);
        let client = ClientId::Domain("client.example".to_owned());
        anyhow::Ok(AsyncSmtpConnection::connect_with_transport(stream, &client).await?)
    })?;
    let cost = measure(&runtime, messages, async {
        for _ in 0..messages {
            connection.send(&envelope, &message).await?;
        }
        Ok(())
    })?;
    runtime.block_on(connection.quit())?;
    Ok(cost)
}

/// What its process takes from start to end. Its connection cannot be told apart, which is little in thousands.
fn smtp_source(sink: SocketAddr, messages: u32) -> anyhow::Result<Cost> {
    let began = Instant::now();
    let mut process = Command::new("/usr/sbin/smtp-source")
        .args(["-d", "-s", "1", "-m", &messages.to_string()])
        .args(["-l", &SIZE.to_string(), "-f", SENDER, "-t", RECIPIENT])
        .arg(format!("inet:{}:{}", sink.ip(), sink.port()))
        .stderr(Stdio::inherit())
        .spawn()
        .context("start smtp-source; `deploy/tools.sh bench` installs it")?;
    let id = Pid::from_child(&process);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(id), ended).context("wait for smtp-source")?;
    let elapsed = began.elapsed();
    // Nanoseconds on the CPU; still to be read as long as nobody has waited for the process.
    let path = format!("/proc/{}/schedstat", process.id());
    let spent = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    anyhow::ensure!(process.wait()?.success(), "smtp-source failed");
    let nanos = spent.split(' ').next().unwrap_or_default().parse()?;
    Ok(Cost {
        per_second: f64::from(messages) / elapsed.as_secs_f64(),
        cpu: Duration::from_nanos(nanos) / messages,
        allocations: None,
    })
}

async fn connect(sink: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(sink).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// What `sending` takes: this process has no other thread and does nothing else.
fn measure(
    runtime: &Runtime,
    messages: u32,
    sending: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Cost> {
    let (began, busy) = (Instant::now(), cpu_time());
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| result = runtime.block_on(sending));
    let (elapsed, cpu) = (began.elapsed(), cpu_time() - busy);
    result?;
    Ok(Cost {
        per_second: f64::from(messages) / elapsed.as_secs_f64(),
        cpu: cpu / messages,
        allocations: Some(counted.count_total as f64 / f64::from(messages)),
    })
}

fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        spent.tv_sec.unsigned_abs(),
        spent.tv_nsec.unsigned_abs() as u32,
    )
}
