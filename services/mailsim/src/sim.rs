//! The whole simulator: bound first, so that its ports are known, then run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hickory_server::Server;
use model::Clock;
use runtime::{Shutdown, Tasks};
use tokio::net::{TcpListener, UdpSocket};

use crate::config::Config;
use crate::counters::{Counters, Counts};
use crate::dns::Zone;
use crate::exchanger::Exchanger;
use crate::ledger::Ledger;
use crate::listener::{self, Door};
use crate::tls::Authority;

/// How long sessions may go on after the order to end.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a DNS client may leave its TCP connection idle.
const DNS_IDLE: Duration = Duration::from_secs(10);
/// DNS responses that wait on one TCP connection.
const DNS_RESPONSES: usize = 32;
/// How often a port that is free for both UDP and TCP is looked for.
const DNS_PORTS_TRIED: u32 = 16;

/// Runs the providers of `config` until shutdown.
pub async fn run(config: Config, clock: Arc<dyn Clock>, shutdown: Shutdown) -> anyhow::Result<()> {
    Mailsim::bind(config, clock).await?.run(shutdown).await
}

/// A simulator whose ports are bound.
pub struct Mailsim {
    dns_addr: SocketAddr,
    mx_port: u16,
    dns: Server<Zone>,
    exchangers: Vec<(Door, Arc<Exchanger>)>,
    tally: Tally,
}

/// What each provider has done so far; may be read while the simulator runs and after.
#[derive(Debug, Clone)]
pub struct Tally(Arc<BTreeMap<String, Arc<Counters>>>);

impl Tally {
    /// What the provider called `name` has done; none where there is no such provider, or it takes no mail.
    pub fn of(&self, name: &str) -> Option<Counts> {
        self.0.get(name).map(|counters| counters.read())
    }

    /// What all have done, by name.
    pub fn all(&self) -> BTreeMap<String, Counts> {
        let read = |(name, counters): (&String, &Arc<Counters>)| (name.clone(), counters.read());
        self.0.iter().map(read).collect()
    }
}

impl Mailsim {
    /// Binds the DNS server and every provider's port, and opens the ledger.
    pub async fn bind(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let ledger = Ledger::open(config.ledger.as_deref()).context("open the ledger")?;
        let ledger = Arc::new(ledger);
        if let Some(directory) = &config.record {
            std::fs::create_dir_all(directory).context("make the directory for records")?;
        }
        let authority = Authority::new(config.authority.as_deref())?;
        let mut found = Vec::new();
        for provider in config.providers.iter().filter(|one| !one.elsewhere) {
            let made = Exchanger::of(
                provider,
                &config,
                &authority,
                Arc::clone(&ledger),
                Arc::clone(&clock),
            )?;
            found.extend(made.map(Arc::new));
        }
        let places = found.iter().map(|exchanger: &Arc<Exchanger>| {
            let provider = &exchanger.provider;
            (provider.address, provider.down.as_slice())
        });
        let (doors, mx_port) = listener::bind(places, config.mx_port)?;
        let zone = Zone::of(&config.providers, config.dns_ttl).context("build the zone")?;
        let (dns, dns_addr) = bind_dns(zone, config.dns_listen).await?;
        let counters = |exchanger: &Arc<Exchanger>| {
            let name = exchanger.provider.name.clone();
            (name, Arc::clone(&exchanger.counters))
        };
        let tally = Tally(Arc::new(found.iter().map(counters).collect()));
        Ok(Self {
            dns_addr,
            mx_port,
            dns,
            exchangers: doors.into_iter().zip(found).collect(),
            tally,
        })
    }

    /// Where the DNS server listens, UDP and TCP.
    pub fn dns_addr(&self) -> SocketAddr {
        self.dns_addr
    }

    /// The port on which every provider listens, at its own address.
    pub fn mx_port(&self) -> u16 {
        self.mx_port
    }

    /// The providers' counters.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Plays the providers until shutdown, then lets sessions finish the message at hand.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let tasks = Tasks::new(shutdown.child());
        tracing::info!(dns = %self.dns_addr, mx_port = self.mx_port, "mailsim is up");
        tasks.spawn_vital("dns", serve_dns(self.dns, tasks.shutdown().clone()));
        for (door, exchanger) in self.exchangers {
            tasks.spawn_vital("listener", door.attend(exchanger, tasks.clone()));
        }
        tasks.shutdown().requested().await;
        if let Err(busy) = tasks.finish(DRAIN).await {
            tracing::warn!(%busy, "sessions cut off");
        }
        tasks.failure().map_or(Ok(()), Err)
    }
}

async fn serve_dns(mut server: Server<Zone>, shutdown: Shutdown) -> anyhow::Result<()> {
    tokio::select! {
        ended = server.block_until_done() => ended.context("serve DNS"),
        () = shutdown.requested() => server.shutdown_gracefully().await.context("end DNS"),
    }
}

/// A DNS server on `wanted`, UDP and TCP; on one port for both where any will do.
async fn bind_dns(zone: Zone, wanted: SocketAddr) -> anyhow::Result<(Server<Zone>, SocketAddr)> {
    let mut tries = if wanted.port() == 0 {
        DNS_PORTS_TRIED
    } else {
        1
    };
    let (udp, tcp) = loop {
        tries -= 1;
        let udp = UdpSocket::bind(wanted)
            .await
            .with_context(|| format!("listen on {wanted}/udp"))?;
        let address = udp.local_addr().context("read the DNS port")?;
        match TcpListener::bind(address).await {
            Ok(tcp) => break (udp, tcp),
            Err(_) if tries > 0 => {}
            Err(error) => return Err(error).with_context(|| format!("listen on {address}/tcp")),
        }
    };
    let address = udp.local_addr().context("read the DNS port")?;
    let mut server = Server::new(zone);
    server.register_socket(udp);
    server.register_listener(tcp, DNS_IDLE, DNS_RESPONSES);
    Ok((server, address))
}

#[cfg(test)]
mod tests;
