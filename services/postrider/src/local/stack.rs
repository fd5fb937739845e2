//! A whole cluster on loopback: NATS, Redis, the simulator, ingest and any number of workers, each a process.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use ingest::config::{RawApiKey, key_sha256};
use model::ByteSize;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::embedded::random_key;
use super::{Child, NatsServer, RedisServer, disk};
use crate::config::{RawConfig, RawNats};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(30);
const CONFIG_FILE: &str = "postrider.toml";

/// How to lay out a stack.
pub struct StackOptions {
    /// The program whose verbs are the services.
    pub program: PathBuf,
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Who may submit.
    pub tenants: Vec<String>,
    /// What the file would say; addresses of servers are filled in, and loopback is dialled where nothing else is.
    pub config: RawConfig,
}

/// A process of the stack.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    /// Tells it from others, and names its log.
    pub name: &'a str,
    /// The program's verb.
    pub verb: &'a str,
    /// Variables that override the configuration file: `("POSTRIDER__NATS__SYNC", "allow-lazy")`.
    pub environment: &'a [(&'a str, &'a str)],
}

impl<'a> Service<'a> {
    /// As the configuration file has it.
    pub fn new(name: &'a str, verb: &'a str) -> Self {
        Self {
            name,
            verb,
            environment: &[],
        }
    }
}

/// A running stack.
pub struct Stack {
    program: PathBuf,
    dir: PathBuf,
    config: RawConfig,
    keys: Vec<String>,
    nats: Vec<NatsServer>,
    redis: RedisServer,
    mailsim: Child,
    services: Vec<Child>,
}

impl Stack {
    /// Starts the servers and the simulator. Ingest and workers are started by the caller.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let nats = NatsServer::start(&options.dir.join("nats")).await?;
        Self::start_on(vec![nats], options).await
    }

    /// The same around nats-servers that run already: one, or a cluster that keeps a copy of everything on each.
    pub async fn start_on(nats: Vec<NatsServer>, options: StackOptions) -> anyhow::Result<Self> {
        let StackOptions {
            program,
            dir,
            tenants,
            mut config,
        } = options;
        let redis = RedisServer::start(&dir.join("redis")).await?;
        let keys: Vec<String> = tenants.iter().map(|_| random_key()).collect();
        config.nats.servers = nats.iter().map(|server| server.url.clone()).collect();
        config.nats.monitors = nats.iter().map(|server| server.monitor.clone()).collect();
        config.nats.replicas = nats.len();
        for server in &nats {
            fit(&mut config.nats, server.max_file())?;
        }
        config.redis.url = redis.url.clone();
        let [ingest, dns, mx] = some_free_ports()?;
        config.ingest.listen = ingest.to_string();
        config.ingest.api_keys = tenants
            .into_iter()
            .zip(&keys)
            .map(|(tenant, key)| api_key(tenant, key))
            .collect();
        config.mailsim.dns_listen = dns.to_string();
        config.mailsim.mx_port = mx.port();
        config.mailsim.ledger = Some(dir.join("ledger.jsonl"));
        config.delivery.dns_servers = vec![dns.to_string()];
        config.delivery.mx_port = mx.port();
        if config.delivery.dialable.is_empty() {
            config.delivery.dialable = vec!["127.0.0.0/8".into()];
        }
        write(&config, &dir.join(CONFIG_FILE))?;
        let mailsim = spawn(&program, &dir, &Service::new("mailsim", "mailsim"))?;
        wait_for(dns).await.context("start mailsim")?;
        Ok(Self {
            program,
            dir,
            config,
            keys,
            nats,
            redis,
            mailsim,
            services: Vec::new(),
        })
    }

    /// Changes the configuration file, and answers what stands in it now. What runs keeps to what it has read.
    pub fn reconfigure(
        &mut self,
        change: impl FnOnce(&mut RawConfig),
    ) -> anyhow::Result<&RawConfig> {
        change(&mut self.config);
        write(&self.config, &self.config_file())?;
        Ok(&self.config)
    }

    /// Starts an ingest service and waits until it answers.
    pub async fn start_ingest(&mut self) -> anyhow::Result<()> {
        self.start_service(&Service::new("ingest", "ingest"))?;
        wait_for(self.address()?)
            .await
            .with_context(|| format!("start ingest; see {}", self.log("ingest").display()))
    }

    /// Starts a delivery worker; `name` tells it from others.
    pub fn start_worker(&mut self, name: &str) -> anyhow::Result<()> {
        self.start_service(&Service::new(name, "delivery"))
    }

    /// Starts a service and waits for nothing.
    pub fn start_service(&mut self, service: &Service<'_>) -> anyhow::Result<()> {
        let started = spawn(&self.program, &self.dir, service)?;
        self.services.push(started);
        Ok(())
    }

    /// A running service.
    pub fn service(&self, name: &str) -> anyhow::Result<&Child> {
        let found = self.services.iter().find(|child| child.name() == name);
        found.with_context(|| format!("no service {name} runs"))
    }

    /// Takes a service out of the stack, to be killed or stopped by the caller.
    pub fn take(&mut self, name: &str) -> anyhow::Result<Child> {
        let found = self
            .services
            .iter()
            .position(|service| service.name() == name);
        Ok(self
            .services
            .remove(found.with_context(|| format!("no service {name} runs"))?))
    }

    /// The API's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.config.ingest.listen)
    }

    /// The API keys, in the order of the tenants.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The port of all mail exchangers.
    pub fn mx_port(&self) -> u16 {
        self.config.delivery.mx_port
    }

    /// What the simulator writes down.
    pub fn ledger(&self) -> PathBuf {
        self.dir.join("ledger.jsonl")
    }

    /// The log of a service.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// The configuration file of the services.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join(CONFIG_FILE)
    }

    /// The nats-servers.
    pub fn nats(&self) -> &[NatsServer] {
        &self.nats
    }

    /// The nats-servers, to be killed.
    pub fn nats_mut(&mut self) -> &mut [NatsServer] {
        &mut self.nats
    }

    /// The redis-server.
    pub fn redis(&self) -> &RedisServer {
        &self.redis
    }

    /// Every process but the simulator.
    pub fn processes(&self) -> impl Iterator<Item = &Child> {
        let nats = self.nats.iter().map(NatsServer::child);
        nats.chain([self.redis.child()]).chain(&self.services)
    }

    /// The first service that has ended although nobody asked it to.
    pub fn first_ended(&mut self) -> Option<&str> {
        self.services
            .iter_mut()
            .find_map(|service| service.has_ended().then_some(service.name()))
    }

    /// Ends everything in order: services, simulator, servers.
    pub async fn stop(self) -> anyhow::Result<()> {
        let mut unclean = Vec::new();
        for service in self.services.into_iter().rev().chain([self.mailsim]) {
            let name = service.name().to_owned();
            let status = service.stop(STOP).await?;
            if !status.success() {
                unclean.push(format!("{name} ended with {status}"));
            }
        }
        self.redis.stop().await;
        for server in self.nats {
            server.stop().await;
        }
        if unclean.is_empty() {
            Ok(())
        } else {
            bail!("{}", unclean.join(", "))
        }
    }

    fn address(&self) -> anyhow::Result<SocketAddr> {
        self.config
            .ingest
            .listen
            .parse()
            .context("read ingest.listen")
    }
}

fn write(config: &RawConfig, file: &Path) -> anyhow::Result<()> {
    let text = toml::to_string(config).context("write the configuration")?;
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

fn spawn(program: &Path, dir: &Path, service: &Service<'_>) -> anyhow::Result<Child> {
    let Service {
        name,
        verb,
        environment,
    } = service;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(dir.join(CONFIG_FILE))
        .arg(verb)
        .envs(environment.iter().copied());
    Child::start(name, &mut command, &dir.join(format!("{name}.log")))
}

/// Lowers the limits of ready jobs and of events to what a server that stores `max_file` can promise.
fn fit(nats: &mut RawNats, max_file: ByteSize) -> anyhow::Result<()> {
    let ready = nats.ready_bytes.parse().context("read nats.ready_bytes")?;
    let events = nats.event_bytes.parse().context("read nats.event_bytes")?;
    let (ready, events) = disk::fit(ready, events, max_file);
    nats.ready_bytes = ready.to_string();
    nats.event_bytes = events.to_string();
    Ok(())
}

fn api_key(tenant: String, key: &str) -> RawApiKey {
    RawApiKey {
        tenant,
        key: None,
        key_sha256: Some(key_sha256(key)),
    }
}

/// A port of loopback that is free for TCP and UDP at this moment.
pub fn free_port() -> anyhow::Result<SocketAddr> {
    let [port] = some_free_ports()?;
    Ok(port)
}

fn some_free_ports<const COUNT: usize>() -> anyhow::Result<[SocketAddr; COUNT]> {
    let ports = free_ports(COUNT)?.try_into();
    ports.map_err(|_| anyhow!("not as many ports as were asked for"))
}

/// `count` different ones: of two that are asked for one by one the second may be the first, while nobody listens there yet.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let mut taken = Vec::new();
    for _ in 0..100 * count {
        if taken.len() == count {
            break;
        }
        let tcp = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let address = tcp.local_addr().context("read the free port")?;
        if let Ok(udp) = UdpSocket::bind(address) {
            taken.push((address, tcp, udp));
        }
    }
    ensure!(
        taken.len() == count,
        "too few ports of loopback are free for both TCP and UDP"
    );
    Ok(taken.iter().map(|(address, ..)| *address).collect())
}

async fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + START;
    while TcpStream::connect(address).await.is_err() {
        if tokio::time::Instant::now() > deadline {
            bail!("nothing listens on {address}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
