//! Checks that acknowledged means synced (ADR 2), on every server of the cluster.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::{Settings, SetupError, SyncPolicy};

/// The most a monitoring endpoint may answer.
const ANSWER_LIMIT: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

/// What `/jsz` says, as far as it concerns us.
#[derive(Debug, Deserialize)]
struct Jsz {
    server_id: String,
    config: JszConfig,
    meta_cluster: Option<MetaCluster>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JszConfig {
    sync_always: bool,
}

#[derive(Debug, Deserialize)]
struct MetaCluster {
    cluster_size: usize,
}

/// Asks every server; an error names the first that would lose acknowledged mail.
pub(crate) async fn check(settings: &Settings) -> Result<(), SetupError> {
    if settings.sync == SyncPolicy::AllowLazy {
        tracing::warn!("nats.sync is allow-lazy: a power cut can lose accepted mail");
        return Ok(());
    }
    let mut servers = BTreeSet::new();
    let mut size = 1;
    for monitor in &settings.monitors {
        for address in addresses(monitor).await? {
            let answer = ask(monitor, address).await?;
            if !answer.config.sync_always {
                return Err(SetupError::LazySync {
                    monitor: monitor.clone(),
                });
            }
            size = size.max(
                answer
                    .meta_cluster
                    .map_or(1, |cluster| cluster.cluster_size),
            );
            servers.insert(answer.server_id);
        }
    }
    if servers.len() < size {
        return Err(SetupError::ServersNotAsked {
            asked: servers.len(),
            size,
        });
    }
    Ok(())
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

async fn ask(monitor: &str, address: SocketAddr) -> Result<Jsz, SetupError> {
    let problem = |problem: String| SetupError::Monitor {
        monitor: monitor.to_owned(),
        problem,
    };
    let answer = tokio::time::timeout(DEADLINE, get_jsz(address)).await;
    let bytes = answer
        .map_err(|_| problem(format!("no answer within {} s", DEADLINE.as_secs())))?
        .map_err(|error| problem(error.to_string()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| problem(format!("not the answer of a nats-server: {error}")))
}

/// `GET /jsz` over a connection of its own.
async fn get_jsz(address: SocketAddr) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get("/jsz")
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
