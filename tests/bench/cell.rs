//! Postrider as it runs in production: nats-servers, a redis-server, ingest and workers, each a process, with the
//! defaults of the configuration.
//!
//! What is not a default says where things are on this machine. DNS is the simulator's, counted apart: resolvers
//! belong to nobody.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ingest::config::{RawApiKey, key_sha256};
use mailsim::config::RawProvider;
use postrider::config::RawConfig;
use postrider::local::{Child, RedisServer, free_ports};
use tests::meter;
use tokio::process::Command;

use crate::program;
use crate::run::{self, Load};
use crate::sink::Sink;

const STOP: Duration = Duration::from_secs(20);
/// Octets of the API key's hexadecimal digits are as good as random here: nobody else is on this machine's loopback.
pub(crate) const KEY: &str = "bench-key-0123456789abcdef";

/// How to lay out a cell.
pub(crate) struct Layout {
    /// nats-servers: 1, or 3 with three copies of everything.
    pub(crate) nodes: usize,
    /// The world: the providers that DNS knows.
    pub(crate) providers: Vec<RawProvider>,
    /// Where every provider's exchangers listen; none: the simulator's own, with its manners.
    pub(crate) sink: Option<u16>,
    /// Changes to the configuration.
    pub(crate) configure: fn(&mut RawConfig),
}

/// A running cell.
pub(crate) struct Cell {
    dir: PathBuf,
    config: RawConfig,
    nats: Vec<Child>,
    redis: RedisServer,
    world: Child,
    services: Vec<Child>,
}

impl Cell {
    /// Starts the servers, DNS and one ingest service; workers are started by the caller.
    pub(crate) async fn start(dir: &Path, layout: Layout) -> anyhow::Result<Self> {
        let mut config = RawConfig::default();
        let nats = start_nats(dir, layout.nodes, &mut config).await?;
        let redis = RedisServer::start(&dir.join("redis")).await?;
        config.redis.url.clone_from(&redis.url);
        let ports = free_ports(3)?;
        let (ingest, dns, mx) = (ports[0], ports[1], ports[2]);
        config.ingest.listen = ingest.to_string();
        config.ingest.api_keys = vec![RawApiKey {
            tenant: "bench".into(),
            key: None,
            key_sha256: Some(key_sha256(KEY)),
        }];
        config.mailsim.dns_listen = dns.to_string();
        config.mailsim.dns_ttl = "1h".into();
        config.mailsim.mx_port = mx.port();
        config.mailsim.providers = layout.providers;
        config.delivery.dns_servers = vec![dns.to_string()];
        config.delivery.mx_port = layout.sink.unwrap_or(mx.port());
        config.delivery.dialable = vec!["127.0.0.0/8".into()];
        config.delivery.ehlo_name = "postrider.bench.example".into();
        (layout.configure)(&mut config);
        let text = toml::to_string(&config).context("write the configuration")?;
        std::fs::write(dir.join("postrider.toml"), text).context("write the configuration")?;
        let world = spawn(dir, "mailsim", "mailsim", &[])?;
        crate::wait_for_port(dns.port())
            .await
            .context("start DNS")?;
        let mut cell = Self {
            dir: dir.to_owned(),
            config,
            nats,
            redis,
            world,
            services: Vec::new(),
        };
        cell.services.push(spawn(dir, "ingest", "ingest", &[])?);
        let port = cell.config.ingest.listen.rsplit_once(':');
        let port = port.context("read the port of ingest")?.1.parse()?;
        crate::wait_for_port(port).await.context("start ingest")?;
        Ok(cell)
    }

    /// Starts a worker; `overrides` are variables such as `("POSTRIDER__DELIVERY__SOURCE", "b")`.
    pub(crate) fn start_worker(
        &mut self,
        name: &str,
        overrides: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let worker = spawn(&self.dir, name, "delivery", overrides)?;
        self.services.push(worker);
        Ok(())
    }

    /// Sends messages that nobody measures.
    pub(crate) async fn warm_up(
        &self,
        sink: &Sink,
        dir: &Path,
        messages: usize,
    ) -> anyhow::Result<()> {
        let load = Load {
            messages,
            size: 10 << 10,
            to: "d{100}.p0.bench.example",
            flags: &[],
        };
        let loader = run::postrider_load(self, &load)?;
        let warm = run::through(&load, loader, &self.pids(), sink, dir).await;
        warm.map(drop).context("warm up")
    }

    /// The API's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.config.ingest.listen)
    }

    /// Everything Postrider needs: its services, every nats-server, Redis.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let servers = self.nats.iter().chain([self.redis.child()]);
        let all = servers.chain(&self.services);
        all.filter_map(Child::pid).collect()
    }

    /// Prints the CPU time that each process has used since it started.
    pub(crate) fn print_cpu(&self) -> anyhow::Result<()> {
        let servers = self.nats.iter().chain([self.redis.child()]);
        for child in servers.chain(&self.services) {
            if let Some(pid) = child.pid() {
                let used = meter::cpu(&[pid])?.as_secs_f64();
                eprintln!("  {}: {used:.2} s", child.name());
            }
        }
        Ok(())
    }

    /// Fails where a process has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let all = self.nats.iter_mut().chain(&mut self.services);
        let ended = all.filter_map(|child| child.has_ended().then(|| child.name().to_owned()));
        let ended: Vec<String> = ended.collect();
        anyhow::ensure!(
            ended.is_empty(),
            "{} ended by itself; see the logs in {}",
            ended.join(", "),
            self.dir.display()
        );
        Ok(())
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for service in self.services.into_iter().rev().chain([self.world]) {
            service.stop(STOP).await?;
        }
        self.redis.stop().await;
        for server in self.nats {
            server.kill().await?;
        }
        Ok(())
    }
}

fn spawn(dir: &Path, name: &str, verb: &str, overrides: &[(&str, &str)]) -> anyhow::Result<Child> {
    let mut command = Command::new(program()?);
    command
        .arg("--config")
        .arg(dir.join("postrider.toml"))
        .arg(verb)
        .envs(overrides.iter().copied());
    Child::start(name, &mut command, &dir.join(format!("{name}.log")))
}

/// Starts the nats-servers and points `config` at them.
async fn start_nats(
    dir: &Path,
    nodes: usize,
    config: &mut RawConfig,
) -> anyhow::Result<Vec<Child>> {
    let ports: Vec<u16> = free_ports(3 * nodes)?
        .iter()
        .map(SocketAddr::port)
        .collect();
    let (clients, rest) = ports.split_at(nodes);
    let (monitors, routes) = rest.split_at(nodes);
    let mut servers = Vec::new();
    for node in 0..nodes {
        let home = dir.join(format!("nats-{node}"));
        std::fs::create_dir_all(&home).context("create a nats-server's directory")?;
        let text = nats_conf(&home, node, (clients[node], monitors[node]), routes);
        let file = home.join("nats.conf");
        std::fs::write(&file, text).context("write nats.conf")?;
        let mut command = Command::new(crate::nats_server()?);
        command.arg("-c").arg(&file);
        if nodes > 1 {
            // Those that share a machine share its cores, as limits of CPU in containers tell nats-server.
            command.env("GOMAXPROCS", cores_for_one_of(nodes).to_string());
        }
        let name = format!("nats-{node}");
        servers.push(Child::start(&name, &mut command, &home.join("nats.log"))?);
    }
    for port in clients {
        crate::wait_for_port(*port).await.context("start NATS")?;
    }
    let url = |scheme: &'static str| move |port: &u16| format!("{scheme}://127.0.0.1:{port}");
    config.nats.servers = clients.iter().map(url("nats")).collect();
    config.nats.monitors = monitors.iter().map(url("http")).collect();
    if nodes > 1 {
        config.nats.replicas = nodes;
        // The power stays on, whatever the disk is.
        config.nats.ordered_disks = true;
    }
    Ok(servers)
}

/// Of this machine's cores, where `nodes` share them.
fn cores_for_one_of(nodes: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    cores.div_ceil(nodes)
}

/// As the chart configures it, with what one machine's disk can promise to several servers.
fn nats_conf(home: &Path, node: usize, (client, monitor): (u16, u16), routes: &[u16]) -> String {
    let mut text = format!(
        "server_name: bench-{node}\n\
         listen: \"127.0.0.1:{client}\"\n\
         http: \"127.0.0.1:{monitor}\"\n\
         jetstream {{ store_dir: \"{}\", sync_interval: always, max_file_store: 20GB }}\n",
        home.display()
    );
    if routes.len() > 1 {
        let urls: Vec<String> = routes
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .collect();
        text += &format!(
            "cluster {{ name: bench, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
            routes[node],
            urls.join(", ")
        );
    }
    text
}
