//! The server of the benchmark: takes everything, at a distance, in a process of its own.
//!
//! The distance is kept here and not in the network: what arrives is looked at half a round trip later, and what is
//! answered leaves half a round trip later.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The argument that makes this program the sink; the round trip in milliseconds follows.
const ARGUMENT: &str = "sink";
const HELLO: &[u8] =
    b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 SIZE 50000000\r\n";

/// A running sink, which ends when this is dropped.
pub(crate) struct Sink {
    process: Child,
    address: SocketAddr,
}

impl Sink {
    pub(crate) fn start(round_trip: Duration) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([ARGUMENT, &round_trip.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().context("read the sink's address")?;
        Ok(Self { process, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The round trip to keep, if this process is to be the sink.
pub(crate) fn asked_for() -> Option<Duration> {
    let mut arguments = std::env::args().skip(1);
    arguments.find(|argument| argument == ARGUMENT)?;
    let millis = arguments.next()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// Tells its address, and serves one connection after the other until standard input ends.
pub(crate) fn run(round_trip: Duration) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let served = match round_trip / 2 {
                Duration::ZERO => near(stream).await,
                half => far(stream, half).await,
            };
            // A client that hangs up is done.
            let _ = served;
        }
    })
}

async fn near(mut stream: TcpStream) -> std::io::Result<()> {
    let mut dialogue = Dialogue::default();
    let mut input = vec![0; 64 * 1024];
    let mut replies = b"220 sink.example\r\n".to_vec();
    loop {
        if !replies.is_empty() {
            stream.write_all(&replies).await?;
            replies.clear();
        }
        match stream.read(&mut input).await? {
            0 => return Ok(()),
            octets => dialogue.hear(&input[..octets], &mut replies),
        }
    }
}

async fn far(stream: TcpStream, half: Duration) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (arrive, mut arrivals) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let (answer, mut answers) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let _ = answer.send((Instant::now() + half, b"220 sink.example\r\n".to_vec()));
    let read = async move {
        let mut input = vec![0; 64 * 1024];
        while let Ok(octets @ 1..) = reader.read(&mut input).await {
            let _ = arrive.send((Instant::now() + half, input[..octets].to_vec()));
        }
    };
    let talk = async move {
        let mut dialogue = Dialogue::default();
        while let Some((due, octets)) = arrivals.recv().await {
            sleep_until(due).await;
            let mut replies = Vec::new();
            dialogue.hear(&octets, &mut replies);
            let _ = answer.send((Instant::now() + half, replies));
        }
    };
    let write = async move {
        while let Some((due, octets)) = answers.recv().await {
            sleep_until(due).await;
            if writer.write_all(&octets).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, talk, write);
    Ok(())
}

/// What a server says to what it hears, and nothing more.
#[derive(Default)]
struct Dialogue {
    line: Vec<u8>,
    in_content: bool,
    /// What is to come of a chunk, whose end is that of a line.
    chunk: usize,
}

impl Dialogue {
    fn hear(&mut self, octets: &[u8], replies: &mut Vec<u8>) {
        for piece in octets.split_inclusive(|octet| *octet == b'\n') {
            if self.line.is_empty() && piece.ends_with(b"\n") {
                self.obey(piece, replies);
                continue;
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.obey(&line, replies);
            }
        }
    }

    fn obey(&mut self, line: &[u8], replies: &mut Vec<u8>) {
        if self.in_content {
            if line == b".\r\n" {
                self.in_content = false;
                replies.extend_from_slice(b"250 2.0.0 queued as 4711\r\n");
            }
            return;
        }
        if self.chunk > 0 {
            self.chunk = self.chunk.saturating_sub(line.len());
            if self.chunk == 0 {
                replies.extend_from_slice(b"250 2.0.0 queued as 4711\r\n");
            }
            return;
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match &verb[..] {
            b"EHLO" => HELLO,
            b"MAIL" => b"250 2.1.0 ok\r\n",
            b"RCPT" => b"250 2.1.5 ok\r\n",
            b"DATA" => {
                self.in_content = true;
                b"354 go on\r\n"
            }
            b"BDAT" => {
                let text = String::from_utf8_lossy(line);
                let size = text.split(' ').nth(1).and_then(|size| size.parse().ok());
                self.chunk = size.unwrap_or(0);
                b""
            }
            b"QUIT" => b"221 2.0.0 bye\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        replies.extend_from_slice(reply);
    }
}
