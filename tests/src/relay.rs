//! A relay in front of a server, which a test cuts and mends.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes octets on, to and fro, until dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
    _passing: JoinSet<()>,
}

impl Relay {
    /// One in front of `server`, an address and port.
    pub async fn before(server: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr().context("listen")?;
        let (is_cut, cut) = watch::channel(false);
        let (server, mut relaying) = (server.to_owned(), JoinSet::new());
        relaying.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                passing.spawn(pass(client, server.clone(), cut.clone()));
            }
        });
        Ok(Self {
            address,
            is_cut,
            _passing: relaying,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection, and each that is made from now on.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Passes on again what comes over new connections.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

/// Passes on what comes over one connection until either side closes it or it is cut.
async fn pass(mut client: TcpStream, server: String, mut cut: watch::Receiver<bool>) {
    let passing = async {
        let mut upstream = TcpStream::connect(server).await?;
        copy_bidirectional(&mut client, &mut upstream).await
    };
    tokio::select! {
        biased;
        _ = cut.wait_for(|is_cut| *is_cut) => {}
        _ = passing => {}
    }
}
