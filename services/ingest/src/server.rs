//! The service as a whole: its listener, its tasks, its end.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use api::v1::messages_server::MessagesServer;
use api::v1::submission_server::SubmissionServer;
use futures_util::{Stream, StreamExt as _};
use history::History;
use model::Clock;
use queue::Queue;
use runtime::{Shutdown, Tasks};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::accept::Acceptor;
use crate::auth::Authenticate;
use crate::config::Config;
use crate::messages::MessagesService;
use crate::readiness::Readiness;
use crate::shares::Shares;
use crate::submission::{Desk, SubmissionService};
use crate::{projection, readiness};

/// Calls one connection may have in hand at once.
const CALLS_PER_CONNECTION: usize = 256;
/// A request may be this many times the largest message before it is refused unread: up to there the answer names
/// the field.
const READ_FACTOR: usize = 3;

/// What ingest works with.
pub struct Deps {
    /// The queue, set up and checked.
    pub queue: Queue,
    /// The timelines.
    pub history: History,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

/// An ingest service that is bound to its address and not yet running.
pub struct Ingest {
    config: Config,
    deps: Deps,
    listener: TcpListener,
}

impl Ingest {
    /// Binds the listener.
    pub async fn bind(config: Config, deps: Deps) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen).await;
        let listener =
            listener.with_context(|| format!("listen on ingest.listen {}", config.listen))?;
        Ok(Self {
            config,
            deps,
            listener,
        })
    }

    /// Where the API listens.
    pub fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.listener
            .local_addr()
            .context("read the listener's address")
    }

    /// Serves until `shutdown`, then finishes the calls in hand.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            config,
            deps,
            listener,
        } = self;
        let drain_deadline = config.drain_deadline;
        let tasks = Tasks::new(shutdown.child());
        let services = services(config, &deps, &tasks).await?;
        let project = projection::run(
            deps.queue.event_reader(),
            deps.history,
            tasks.shutdown().clone(),
        );
        tasks.spawn("project timelines", project);
        tracing::info!(address = %listener.local_addr()?, "ingest listening");
        let serving = Server::builder()
            .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
            .add_routes(services)
            .serve_with_incoming_shutdown(at_once(listener), shutdown.requested());
        let overdue = async {
            shutdown.requested().await;
            tokio::time::sleep(drain_deadline).await;
        };
        let served = tokio::select! {
            served = serving => served,
            () = overdue => {
                tracing::warn!("calls still open at the deadline, ending them");
                Ok(())
            }
        };
        tasks.shutdown().request();
        if let Err(busy) = tasks.finish(drain_deadline).await {
            tracing::warn!(%busy, "ingest stopped at its deadline");
        }
        served.context("serve the API")
    }
}

/// The connections of `listener`, on which answers are sent without waiting for more: together with the delayed
/// acknowledgement of the other side, that wait is 40 ms. (tonic's own setting is for listeners of its own.)
fn at_once(listener: TcpListener) -> impl Stream<Item = std::io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|accepted| {
        let connection = accepted?;
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "connection lost");
        }
        Ok(connection)
    })
}

/// Every gRPC service, with the tasks behind them running.
async fn services(config: Config, deps: &Deps, tasks: &Tasks) -> anyhow::Result<Routes> {
    let authenticate = Authenticate::new(config.api_keys.clone());
    let (reporter, health) = tonic_health::server::health_reporter();
    let readiness = Readiness::ready();
    let watch = readiness::watch(
        deps.queue.clone(),
        readiness.clone(),
        reporter,
        tasks.shutdown().clone(),
    );
    tasks.spawn("watch readiness", watch);
    let messages = MessagesServer::new(MessagesService {
        history: deps.history.clone(),
        reader: deps.queue.event_reader(),
        canceller: deps
            .queue
            .canceller()
            .await
            .context("open the tombstones")?,
        shutdown: tasks.shutdown().clone(),
    });
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(api::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("describe the API")?;
    let submission = submission(config, deps, readiness, tasks).await?;
    Ok(Routes::new(health)
        .add_service(reflection)
        .add_service(InterceptedService::new(submission, authenticate.clone()))
        .add_service(InterceptedService::new(messages, authenticate)))
}

async fn submission(
    config: Config,
    deps: &Deps,
    readiness: Readiness,
    tasks: &Tasks,
) -> anyhow::Result<SubmissionServer<SubmissionService>> {
    let (events, record_events) = deps.queue.event_recorder(api::encode_batch);
    tasks.spawn("record events", record_events);
    let (backlogs, ask_backlogs) = deps.queue.backlogs();
    let until = tasks.shutdown().clone();
    tasks.spawn("ask for backlogs", async move {
        tokio::select! {
            () = ask_backlogs => {}
            () = until.requested() => {}
        }
    });
    let read_limit = usize::try_from(config.max_message_size.0)?.saturating_mul(READ_FACTOR);
    let acceptor = Acceptor {
        config,
        publisher: deps.queue.publisher(),
        shares: Shares::new(deps.queue.lanes().clone(), backlogs),
        blobs: deps
            .queue
            .blobs()
            .await
            .context("open the store of bodies")?,
        events,
        history: deps.history.clone(),
        clock: Arc::clone(&deps.clock),
        readiness,
    };
    let service = SubmissionService {
        desk: Desk {
            acceptor: Arc::new(acceptor),
            tasks: tasks.clone(),
        },
        shutdown: tasks.shutdown().clone(),
    };
    Ok(SubmissionServer::new(service).max_decoding_message_size(read_limit))
}
