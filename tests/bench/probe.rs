//! One of the sessions to an SMTP server, which looks at how long its messages take to be answered for.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Between two messages, so that they are spread over the run.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends `messages` of `size` octets, each over a connection of its own as `smtp-source` does, and answers the 99th
/// percentile in milliseconds from the connection to the answer behind the final dot.
pub(crate) async fn p99(port: u16, messages: usize, size: usize) -> anyhow::Result<f64> {
    let mut waits = Vec::with_capacity(messages);
    for _ in 0..messages {
        waits.push(send(port, size).await.context("probe")?);
        sleep(PAUSE).await;
    }
    waits.sort_unstable();
    let rank = (messages * 99).div_ceil(100).saturating_sub(1);
    let wait = waits.get(rank).context("no messages to probe with")?;
    Ok(wait.as_secs_f64() * 1000.0)
}

async fn send(port: u16, size: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let connection = TcpStream::connect(("127.0.0.1", port)).await;
    let mut connection = BufStream::new(connection.context("connect")?);
    answered(&mut connection, "the greeting").await?;
    for command in [
        "EHLO probe.bench.example",
        "MAIL FROM:<load@load.example>",
        "RCPT TO:<load@p0.bench.example>",
        "DATA",
    ] {
        say(&mut connection, &format!("{command}\r\n")).await?;
        answered(&mut connection, command).await?;
    }
    let mut content = "Subject: probe\r\n\r\n".to_owned();
    while content.len() < size {
        content += "a line of the text of a message that says nothing\r\n";
    }
    say(&mut connection, &(content + ".\r\n")).await?;
    answered(&mut connection, "the final dot").await?;
    let took = began.elapsed();
    say(&mut connection, "QUIT\r\n").await?;
    Ok(took)
}

async fn say(connection: &mut BufStream<TcpStream>, text: &str) -> anyhow::Result<()> {
    connection.write_all(text.as_bytes()).await?;
    Ok(connection.flush().await?)
}

/// Reads a reply to its end; it must be a positive one.
async fn answered(connection: &mut BufStream<TcpStream>, to: &str) -> anyhow::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        connection.read_line(&mut line).await?;
        ensure!(line.starts_with(['2', '3']), "{to} was answered {line:?}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
