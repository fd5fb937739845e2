//! Where connections come in: one address per provider, all on one port, some of them shut at times.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use runtime::{Shutdown, Tasks};
use smtp::server::{Manner, serve};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::DownWindow;
use crate::distance;
use crate::exchanger::Exchanger;
use crate::session::Session;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How often a port that is free at every address is looked for.
const PORTS_TRIED: u32 = 16;
/// The wait after the system had no descriptor or memory for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A port held at one address: answered, or bound without listening, so that connections are refused.
#[derive(Debug)]
enum Socket {
    Open(TcpListener),
    Shut(TcpSocket),
}

/// One provider's address and port.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    socket: Socket,
    down: Vec<DownWindow>,
}

/// Binds `port` at all addresses, and answers which port it is: another than `port` only where that is 0.
pub(crate) fn bind<'a>(
    places: impl Iterator<Item = (IpAddr, &'a [DownWindow])> + Clone,
    port: u16,
) -> anyhow::Result<(Vec<Door>, u16)> {
    let mut tries = if port == 0 { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        match bind_all(places.clone(), port) {
            Ok(bound) => return Ok(bound),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

fn bind_all<'a>(
    places: impl Iterator<Item = (IpAddr, &'a [DownWindow])>,
    mut port: u16,
) -> anyhow::Result<(Vec<Door>, u16)> {
    let mut doors = Vec::new();
    for (address, down) in places {
        let wanted = SocketAddr::new(address, port);
        let door = Door::bind(wanted, down).with_context(|| format!("listen on {wanted}"))?;
        port = door.address.port();
        doors.push(door);
    }
    Ok((doors, port))
}

/// Holds `address` without answering.
fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Door {
    fn bind(address: SocketAddr, down: &[DownWindow]) -> io::Result<Self> {
        let held = hold(address)?;
        let address = held.local_addr()?;
        let begins_down = down.first().is_some_and(|first| first.from.is_zero());
        let socket = if begins_down {
            Socket::Shut(held)
        } else {
            Socket::Open(held.listen(BACKLOG)?)
        };
        Ok(Self {
            address,
            socket,
            down: down.to_vec(),
        })
    }

    /// Takes connections for `exchanger`, except in its down windows, until shutdown.
    ///
    /// When a window begins, sessions finish the message at hand and are told 421.
    pub(crate) async fn attend(
        self,
        exchanger: Arc<Exchanger>,
        tasks: Tasks,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let shutdown = tasks.shutdown().clone();
        let mut socket = self.socket;
        for window in self.down {
            if !window.from.is_zero() {
                let open = socket.open().context("open a provider's port")?;
                let phase = shutdown.child();
                tokio::select! {
                    () = take_connections(&open, &exchanger, &tasks, &phase) => {}
                    () = sleep_until(start + window.from) => phase.request(),
                    () = shutdown.requested() => return Ok(()),
                }
                drop(open);
                socket = Socket::Shut(hold(self.address).context("shut a provider's port")?);
            }
            tokio::select! {
                () = sleep_until(start + window.until) => {}
                () = shutdown.requested() => return Ok(()),
            }
        }
        let open = socket.open().context("open a provider's port")?;
        tokio::select! {
            () = take_connections(&open, &exchanger, &tasks, &shutdown) => {}
            () = shutdown.requested() => {}
        }
        Ok(())
    }
}

impl Socket {
    fn open(self) -> io::Result<TcpListener> {
        match self {
            Self::Open(listener) => Ok(listener),
            Self::Shut(held) => held.listen(BACKLOG),
        }
    }
}

async fn take_connections(
    listener: &TcpListener,
    exchanger: &Arc<Exchanger>,
    tasks: &Tasks,
    phase: &Shutdown,
) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let session = converse(
                    stream,
                    client.ip(),
                    Arc::clone(exchanger),
                    tasks.clone(),
                    phase.clone(),
                );
                tasks.spawn("smtp session", session);
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                sleep(EXHAUSTED).await;
            }
        }
    }
}

/// A byte stream of any kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The way from the client: recorded where it is to be, and as long as the provider is far away.
async fn way(
    stream: TcpStream,
    session: &Session,
    exchanger: &Exchanger,
    tasks: &Tasks,
) -> io::Result<Box<dyn Stream>> {
    let rtt = exchanger.provider.conduct.rtt;
    let stream: Box<dyn Stream> = if rtt.is_zero() {
        Box::new(stream)
    } else {
        // The client has not waited for the handshake of TCP, nor have we for its last part.
        sleep(rtt * 3 / 2).await;
        Box::new(distance::at(stream, rtt, tasks))
    };
    Ok(match session.recorder() {
        Some(recorder) => Box::new(recorder.listen(stream)?),
        None => stream,
    })
}

/// One session, from the first octet to the last.
async fn converse(
    stream: TcpStream,
    client: IpAddr,
    exchanger: Arc<Exchanger>,
    tasks: Tasks,
    phase: Shutdown,
) {
    match exchanger.manners.at_connect() {
        None => {}
        Some(Manner::Hang) => return phase.requested().await,
        // With no time to linger, what the peer sees is a reset.
        Some(_) => return drop(stream.set_zero_linger()),
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection lost");
        return;
    }
    let mut session = Session::new(Arc::clone(&exchanger), client);
    let stream = match way(stream, &session, &exchanger, &tasks).await {
        Ok(stream) => stream,
        Err(error) => return tracing::error!(%error, "session not recorded"),
    };
    let served = serve(stream, &exchanger.settings, &mut session, phase.requested()).await;
    let provider = exchanger.provider.name.as_str();
    match served {
        Ok(ended) => tracing::debug!(provider, ?ended, "session ended"),
        Err(error) => tracing::debug!(provider, error = ?error, "session broke off"),
    }
}
