//! The service as a whole: its tasks and its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use classify::Classifier;
use history::History;
use model::{Clock, Provider};
use queue::{EventRecorder, Queue, Tombstones};
use routing::{Dialable, ProviderRule, Routing};
use runtime::{Shutdown, Tasks};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use smtp::client::{self, HostName, Options, TlsSettings};
use throttle::Throttle;
use tokio::sync::Semaphore;

use crate::config::{Config, Timeouts};
use crate::connect::Connector;
use crate::copies::Copies;
use crate::intake::Intake;
use crate::judge::Judge;
use crate::leases::Leases;
use crate::letter::Hook;
use crate::reservations::Reservations;
use crate::sender::Sender;
use crate::settle::{LAST_EVENTS, OVERFLOWED_AT_ONCE, Settler};
use crate::sites::Sites;
use crate::suspects::Suspects;

/// What delivery works with.
pub struct Deps {
    /// The queue, set up and checked.
    pub queue: Queue,
    /// Markers.
    pub history: History,
    /// Limits that hold over all workers.
    pub throttle: Throttle,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// What the installation does with each job before it is sent.
    pub hook: Option<Arc<dyn Hook>>,
}

/// A worker that has everything it needs and is not yet running.
pub struct Delivery {
    config: Config,
    deps: Deps,
    connector: Connector,
}

impl Delivery {
    /// Prepares a worker: resolver, TLS, names. `host_name` is the machine's, for EHLO where none is configured.
    pub fn prepare(config: Config, deps: Deps, host_name: &str) -> anyhow::Result<Self> {
        let connector = connector(&config, &deps.clock, host_name)?;
        Ok(Self {
            config,
            deps,
            connector,
        })
    }

    /// Sends mail until `shutdown`, then finishes or gives back what is in hand.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            config,
            deps,
            connector,
        } = self;
        let queue = deps.queue.clone();
        let tasks = Tasks::new(shutdown.child());
        // What every settlement needs, and so outlives them all; nothing works once one of these fails.
        let background = Tasks::new(tasks.shutdown().clone());
        let end = Shutdown::default();
        let (events, record_events) = queue.event_recorder(api::encode_batch);
        let (holds, keep_holds) = queue.holds();
        let (tombstones, follow_tombstones) = queue.tombstones();
        let members = Arc::new(queue.members());
        // The recorder ends by itself, once everything that records has.
        background.spawn_vital("record events", until(Shutdown::default(), record_events));
        background.spawn_vital("keep holds", until(end.clone(), keep_holds));
        background.spawn_vital("follow tombstones", until(end.clone(), follow_tombstones));
        let (alive, stays) = (Arc::clone(&members), tasks.shutdown().clone());
        background.spawn_vital("keep membership", async move {
            until(stays, alive.keep()).await
        });

        tokio::select! {
            () = tombstones.loaded() => {}
            () = shutdown.requested() => {}
        }
        holds.came_up(members.since().await);
        let intake = assemble(&config, deps, connector, events, tombstones, &tasks).await?;
        let sites = intake.sites.clone();
        tasks.spawn("park", park_slow(sites.clone(), shutdown.clone()));
        let leases = Leases::new(&queue, holds.clone(), intake, &config, &tasks);
        tasks.spawn_vital("pull leased lanes", leases.run(Arc::clone(&members)));
        tracing::info!(
            worker = members.own(),
            window = config.window,
            "delivery working"
        );

        // Implied by `shutdown`, and requested too when a task fails that nothing works without.
        tasks.shutdown().requested().await;
        tracing::info!(in_hand = holds.count(), "delivery draining");
        sites.give_back_waiting();
        drop(sites);
        if let Err(busy) = tasks.finish(config.drain_deadline).await {
            tracing::warn!(%busy, "delivery stopped at its deadline");
        }
        holds.flush().await;
        end.request();
        if let Err(busy) = background.finish(LAST_EVENTS).await {
            tracing::warn!(%busy, "events may not all be recorded");
        }
        tasks.failure().or(background.failure()).map_or(Ok(()), Err)
    }
}

/// Does `work` until it ends or `end` comes.
async fn until(end: Shutdown, work: impl Future<Output = ()>) -> anyhow::Result<()> {
    tokio::select! {
        () = work => {}
        () = end.requested() => {}
    }
    Ok(())
}

/// Puts the parts together, from the last step of a job's way to the first.
async fn assemble(
    config: &Config,
    deps: Deps,
    connector: Connector,
    events: EventRecorder,
    tombstones: Tombstones,
    tasks: &Tasks,
) -> anyhow::Result<Arc<Intake>> {
    let Deps {
        queue,
        history,
        throttle,
        clock,
        hook,
    } = deps;
    let publisher = queue.publisher();
    let blobs = queue.blobs().await.context("open the stores of bodies")?;
    let classifier = Classifier::builtin().context("read the built-in classification rules")?;
    let judge = Arc::new(Judge {
        classifier,
        backoff: config.backoff.clone(),
    });
    let settler = Arc::new(Settler {
        publisher: publisher.clone(),
        blobs: blobs.clone(),
        events,
        history: history.clone(),
        clock: Arc::clone(&clock),
        soonest: queue.ack_wait() * 2,
        overflow_turns: Semaphore::new(OVERFLOWED_AT_ONCE),
        shutdown: tasks.shutdown().clone(),
    });
    let routing = Arc::clone(&connector.routing);
    let sender = Arc::new(Sender {
        connector,
        throttle,
        tombstones: tombstones.clone(),
        blobs,
        hook,
        reservations: Reservations::new(history.clone(), queue.ack_wait()),
        suspects: Suspects::new(history.clone()),
        judge: Arc::clone(&judge),
        settler: Arc::clone(&settler),
        clock: Arc::clone(&clock),
        idle: config.timeouts.idle,
        tasks: tasks.clone(),
    });
    let sites = Sites::new(config, sender, tasks.clone());
    Ok(Arc::new(Intake {
        routing,
        history,
        publisher,
        settler,
        judge,
        sites,
        copies: Copies::default(),
        tombstones,
        clock,
        connections: queue.connections(),
    }))
}

/// Looks every second for sites that do not keep up.
async fn park_slow(sites: Sites, shutdown: Shutdown) {
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    while !shutdown.is_requested() {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = turns.tick() => sites.park_slow(),
        }
    }
}

fn connector(
    config: &Config,
    clock: &Arc<dyn Clock>,
    host_name: &str,
) -> anyhow::Result<Connector> {
    let own_name = config.ehlo_name.as_deref().unwrap_or(host_name);
    let hello: HostName = own_name
        .parse()
        .context("use delivery.ehlo_name, or the machine's host name, in EHLO")?;
    let tls_settings = TlsSettings::new(Arc::clone(clock), trusted(&config.trusted_roots)?)
        .context("prepare TLS")?;
    let Timeouts {
        reply, end_of_data, ..
    } = config.timeouts;
    let timeouts = client::Timeouts {
        greeting: reply,
        hello: reply,
        handshake: reply.min(client::Timeouts::default().handshake),
        mail: reply,
        rcpt: reply,
        data: reply.min(client::Timeouts::default().data),
        block: reply.min(client::Timeouts::default().block),
        end_of_data,
        ..client::Timeouts::default()
    };
    let named = |(provider, hosts): &(Provider, Vec<String>)| ProviderRule {
        name: provider.to_string(),
        hosts: hosts.clone(),
    };
    let settings = routing::Settings {
        dns_servers: config.dns_servers.clone(),
        own_hosts: vec![own_name.to_owned()],
        providers: config
            .providers
            .iter()
            .filter(|(_, mx)| !mx.is_empty())
            .map(named)
            .collect(),
        ..routing::Settings::default()
    };
    Ok(Connector {
        routing: Arc::new(Routing::new(settings, Arc::clone(clock)).context("prepare DNS")?),
        dialable: Dialable::new(config.dialable.clone(), Vec::new()),
        mx_port: config.mx_port,
        source: config.source.clone(),
        source_address: config.source_address,
        timeouts: config.timeouts,
        options: Options {
            timeouts,
            ..Options::new(hello, tls_settings)
        },
    })
}

/// The certificates in `files`.
fn trusted(files: &[PathBuf]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    for file in files {
        let context = || format!("read delivery.trusted_roots: {}", file.display());
        let before = certificates.len();
        for certificate in CertificateDer::pem_file_iter(file).with_context(context)? {
            certificates.push(certificate.with_context(context)?);
        }
        anyhow::ensure!(
            certificates.len() > before,
            "delivery.trusted_roots: {} has no certificate in it; it must be PEM",
            file.display()
        );
    }
    Ok(certificates)
}
