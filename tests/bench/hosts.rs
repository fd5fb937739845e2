//! Thousands of mail hosts in one process, which throw away what they take and count it.
//!
//! Postfix's `smtp-sink` keeps its sessions in a list and walks it at every command: where 2,000 are open it takes more CPU
//! time than Postrider as a whole, and what is measured is the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use runtime::{Shutdown, Tasks};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Listens at every loopback address.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub(crate) port: u16,
    taken: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Hosts {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await;
        let listener = listener.context("listen for mail")?;
        let port = listener.local_addr().context("read the port")?.port();
        let (taken, tasks) = (
            Arc::new(AtomicUsize::new(0)),
            Tasks::new(Shutdown::default()),
        );
        let (counter, sessions) = (Arc::clone(&taken), tasks.clone());
        tasks.spawn("hosts", async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = sessions.shutdown().requested() => return,
                };
                if let Ok((client, _)) = accepted {
                    let (counter, stop) = (Arc::clone(&counter), sessions.shutdown().clone());
                    sessions.spawn("session", async move {
                        tokio::select! {
                            // A client that goes away has nothing to be told.
                            _ = serve(client, &counter) => {}
                            () = stop.requested() => {}
                        }
                    });
                }
            }
        });
        Ok(Self { port, taken, tasks })
    }

    /// Messages taken so far.
    pub(crate) fn count(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown().request();
        // Sessions that are cut off have nothing to lose.
        let _ = self.tasks.finish(Duration::from_secs(2)).await;
    }
}

/// Says yes to everything, and speaks when the client has nothing more to say.
async fn serve(client: TcpStream, taken: &AtomicUsize) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let (from, mut to) = client.into_split();
    let mut from = BufReader::with_capacity(64 << 10, from);
    to.write_all(b"220 hosts.bench.example ESMTP\r\n").await?;
    let mut said = Vec::new();
    let (mut line, mut is_content) = (Vec::new(), false);
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if is_content {
            if line != b".\r\n" {
                continue;
            }
            is_content = false;
            taken.fetch_add(1, Ordering::Relaxed);
            said.extend_from_slice(b"250 2.0.0 taken\r\n");
        } else {
            let reply = reply(&line);
            is_content = reply.starts_with(b"354");
            said.extend_from_slice(reply);
        }
        if from.buffer().is_empty() {
            to.write_all(&said).await?;
            said.clear();
        }
    }
}

/// What a command is answered.
fn reply(command: &[u8]) -> &'static [u8] {
    match command.get(..4).map(<[u8]>::to_ascii_uppercase).as_deref() {
        Some(b"EHLO") => b"250-hosts.bench.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
        Some(b"DATA") => b"354 go ahead\r\n",
        Some(b"QUIT") => b"221 2.0.0 bye\r\n",
        _ => b"250 2.0.0 ok\r\n",
    }
}
