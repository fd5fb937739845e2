//! A connection to a server that can be made deaf and cut, at a moment that a test chooses.

use anyhow::Context as _;
use runtime::{Shutdown, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const CHUNK: usize = 64 << 10;

/// What becomes of what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It arrives.
    Open,
    /// What the client says arrives, what the server answers is lost.
    Deaf,
    /// There is no connection, and none can be made.
    Cut,
}

/// A port that leads to another one; dropped, it leads nowhere.
pub(crate) struct Wire {
    port: u16,
    state: watch::Sender<State>,
    tasks: Tasks,
}

impl Wire {
    /// One to `port` of loopback, open.
    pub(crate) async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.context("listen in front of a server")?;
        let near = listener.local_addr().context("read the port")?.port();
        let (state, states) = watch::channel(State::Open);
        let tasks = Tasks::new(Shutdown::default());
        let connections = tasks.clone();
        tasks.spawn("wire", async move {
            while let Ok((client, _)) = listener.accept().await {
                let states = states.clone();
                connections.spawn("connection", async move {
                    // An end of either side is one of both.
                    let _ = carry(client, port, states).await;
                });
            }
        });
        Ok(Self {
            port: near,
            state,
            tasks,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.send_replace(State::Cut);
        self.tasks.shutdown().request();
    }
}

async fn carry(client: TcpStream, port: u16, states: watch::Receiver<State>) -> anyhow::Result<()> {
    let mut cut = states.clone();
    if *states.borrow() == State::Cut {
        return Ok(());
    }
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = one_way(from_client, to_server, None) => {}
        _ = one_way(from_server, to_client, Some(states)) => {}
        _ = cut.wait_for(|state| *state == State::Cut) => {}
    }
    Ok(())
}

/// Carries what is said, but what comes while `states` says that nobody hears it.
async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    states: Option<watch::Receiver<State>>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        let is_heard = states
            .as_ref()
            .is_none_or(|state| *state.borrow() == State::Open);
        if is_heard {
            to.write_all(&chunk[..read]).await?;
        }
    }
}
