//! Asks the servers whether acknowledged means synced (ADR 2, ADR 28), how full they are, and whether they can write.
//!
//! A server that does not sync is evidence against the whole queue. A server that does not answer is not: it may be the
//! one node that is down while the others hold the quorum. It is asked again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::{Settings, SetupError, SyncPolicy};

/// Versions of nats-server whose copies come back after a power cut only from disks that keep the order of what is written
/// (ADR 28).
const NEED_ORDERED_DISKS: [&str; 2] = ["2.15.0", "2.15.1"];
/// The most a monitoring endpoint may answer.
const ANSWER_LIMIT: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

/// What `/jsz` says, as far as it concerns us.
#[derive(Debug, Deserialize)]
struct Jsz {
    server_id: String,
    /// Octets of file storage in use.
    storage: u64,
    config: JszConfig,
    meta_cluster: Option<MetaCluster>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JszConfig {
    sync_always: bool,
    max_storage: u64,
}

/// What `/varz` says.
#[derive(Debug, Deserialize)]
struct Varz {
    version: String,
}

/// What `/healthz` says.
#[derive(Debug, Deserialize)]
struct Healthz {
    error: Option<String>,
}

impl Healthz {
    /// A write that failed: the disk is full or broken. The server goes on, acknowledges nothing more of that stream, and
    /// has no other word for it than this one.
    fn write_error(self) -> Option<String> {
        self.error.filter(|error| error.contains("write error"))
    }
}

#[derive(Debug, Deserialize)]
struct MetaCluster {
    cluster_size: usize,
}

/// What the servers said of themselves.
#[derive(Debug, Default)]
pub struct Condition {
    /// How much of its file storage the fullest server uses, from 0 to 1.
    pub fullness: f64,
    /// Octets of file storage that the smallest server may use; `None` where none was asked.
    pub smallest_storage: Option<u64>,
    /// Why no server that was asked can write what it is given; `None` where one can.
    pub write_error: Option<String>,
    /// Why not every server of the cluster could be asked; `None` where every one was.
    pub unasked: Option<SetupError>,
}

/// Asks every server. An error names one that would lose acknowledged mail, or says that none answered.
pub(crate) async fn check(settings: &Settings) -> Result<Condition, SetupError> {
    if settings.sync == SyncPolicy::AllowLazy {
        return Ok(Condition::default());
    }
    let (mut servers, mut size) = (BTreeSet::new(), 1);
    let mut can_write = false;
    let mut condition = Condition::default();
    for monitor in &settings.monitors {
        for answer in ask_all(monitor).await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    condition.unasked = Some(error);
                    continue;
                }
            };
            answer.check_durable(monitor, settings)?;
            let Answer { jsz, health, .. } = answer;
            let limit = jsz.config.max_storage.max(1);
            let smallest = condition.smallest_storage.unwrap_or(u64::MAX);
            condition.smallest_storage = Some(smallest.min(jsz.config.max_storage));
            condition.fullness = condition.fullness.max(jsz.storage as f64 / limit as f64);
            size = size.max(jsz.meta_cluster.map_or(1, |cluster| cluster.cluster_size));
            servers.insert(jsz.server_id);
            match health.write_error() {
                Some(error) => condition.write_error = Some(error),
                None => can_write = true,
            }
        }
    }
    condition.write_error.take_if(|_| can_write);
    match condition.unasked.take() {
        Some(error) if servers.is_empty() => return Err(error),
        Some(error) => condition.unasked = Some(error),
        None if servers.len() < size => {
            condition.unasked = Some(SetupError::ServersNotAsked {
                asked: servers.len(),
                size,
            });
        }
        None => {}
    }
    Ok(condition)
}

/// What one server says of itself.
struct Answer {
    jsz: Jsz,
    varz: Varz,
    health: Healthz,
}

impl Answer {
    /// Refuses where this server would not come back to what it acknowledged.
    fn check_durable(&self, monitor: &str, settings: &Settings) -> Result<(), SetupError> {
        let (monitor, version) = (monitor.to_owned(), &self.varz.version);
        if !self.jsz.config.sync_always {
            return Err(SetupError::LazySync { monitor });
        }
        let needs_order = settings.replicas > 1 && NEED_ORDERED_DISKS.contains(&version.as_str());
        if needs_order && !settings.ordered_disks {
            return Err(SetupError::UnorderedDisks {
                monitor,
                version: version.clone(),
            });
        }
        Ok(())
    }
}

/// The answer of every server behind one endpoint.
async fn ask_all(monitor: &str) -> Vec<Result<Answer, SetupError>> {
    let addresses = match addresses(monitor).await {
        Ok(addresses) => addresses,
        Err(error) => return vec![Err(error)],
    };
    let asking = addresses.into_iter().map(|address| ask(monitor, address));
    futures_util::future::join_all(asking).await
}

/// All addresses of one endpoint: a headless service's name stands for every server behind it.
async fn addresses(monitor: &str) -> Result<Vec<SocketAddr>, SetupError> {
    let problem = |problem: String| SetupError::Monitor {
        monitor: monitor.to_owned(),
        problem,
    };
    let authority = monitor
        .strip_prefix("http://")
        .ok_or_else(|| problem("write it as http://host:port".to_owned()))?
        .trim_end_matches('/');
    let found = tokio::net::lookup_host(authority)
        .await
        .map_err(|error| problem(error.to_string()))?;
    Ok(found.collect())
}

async fn ask(monitor: &str, address: SocketAddr) -> Result<Answer, SetupError> {
    let problem = |problem: String| SetupError::Monitor {
        monitor: monitor.to_owned(),
        problem,
    };
    let asked = async {
        tokio::try_join!(
            get(address, "/jsz"),
            get(address, "/varz"),
            get(address, "/healthz")
        )
    };
    let (jsz, varz, health) = tokio::time::timeout(DEADLINE, asked)
        .await
        .map_err(|_| problem(format!("no answer within {} s", DEADLINE.as_secs())))?
        .map_err(|error| problem(error.to_string()))?;
    let strange = |error| problem(format!("not the answer of a nats-server: {error}"));
    Ok(Answer {
        jsz: serde_json::from_slice(&jsz).map_err(strange)?,
        varz: serde_json::from_slice(&varz).map_err(strange)?,
        health: serde_json::from_slice(&health).map_err(strange)?,
    })
}

/// `GET path` over a connection of its own.
async fn get(
    address: SocketAddr,
    path: &str,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get(path)
        .header("host", address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = requests.send_request(request).await?;
        Ok(Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await?
            .to_bytes())
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(ended.err().map_or_else(|| "connection closed".into(), Into::into)),
    }
}
