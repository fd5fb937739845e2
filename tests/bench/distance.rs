//! Puts 50 ms between a worker and the sink: what is said arrives half of that later, in both directions.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use runtime::{Shutdown, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// One way.
const DELAY: Duration = Duration::from_millis(25);
/// Pieces that are on their way at once, in one direction of one connection.
const UNDERWAY: usize = 256;
const CHUNK: usize = 64 << 10;

/// A port that leads to another one, far away.
pub(crate) struct Distance {
    address: SocketAddr,
    tasks: Tasks,
}

impl Distance {
    /// A way to `port` of loopback.
    pub(crate) async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await;
        let listener = listener.context("listen in front of the sink")?;
        let address = listener.local_addr().context("read the port")?;
        let tasks = Tasks::new(Shutdown::default());
        let connections = tasks.clone();
        tasks.spawn("distance", async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = connections.shutdown().requested() => return,
                };
                if let Ok((near, _)) = accepted {
                    let stop = connections.shutdown().clone();
                    connections.spawn("connection", async move {
                        tokio::select! {
                            _ = carry(near, port) => {}
                            () = stop.requested() => {}
                        }
                    });
                }
            }
        });
        Ok(Self { address, tasks })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown().request();
        // Connections that are cut off have nothing to lose.
        let _ = self.tasks.finish(Duration::from_secs(2)).await;
    }
}

/// Both directions of one connection, until both have ended.
async fn carry(near: TcpStream, port: u16) -> std::io::Result<()> {
    // The handshake takes a round trip too.
    sleep_until(Instant::now() + 2 * DELAY).await;
    let far = TcpStream::connect(("127.0.0.1", port)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::try_join!(one_way(near_read, far_write), one_way(far_read, near_write)).map(drop)
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
) -> std::io::Result<()> {
    let (underway, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(UNDERWAY);
    let send = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if from.read_buf(&mut chunk).await? == 0 {
                return Ok(());
            }
            if underway
                .send((Instant::now() + DELAY, chunk))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    };
    let receive = async {
        while let Some((due, chunk)) = arriving.recv().await {
            sleep_until(due).await;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(send, receive).map(drop)
}
