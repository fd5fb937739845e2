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
use serde::de::DeserializeOwned;
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

impl Condition {
    /// Notes why a server could not be asked. That one cannot write says more than that others are silent.
    fn miss(&mut self, error: SetupError) {
        if !matches!(self.unasked, Some(SetupError::CannotWrite { .. })) {
            self.unasked = Some(error);
        }
    }
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
                    condition.miss(error);
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

/// What one server says. One that failed to write may say no more than that: what failed can keep its lock.
async fn ask(monitor: &str, address: SocketAddr) -> Result<Answer, SetupError> {
    let condition = async { tokio::try_join!(get(address, "/jsz"), get(address, "/varz")) };
    let (condition, health) = tokio::join!(
        in_time(monitor, condition),
        in_time(monitor, get(address, "/healthz"))
    );
    let health: Healthz = parse(monitor, &health?)?;
    match condition {
        Ok((jsz, varz)) => Ok(Answer {
            jsz: parse(monitor, &jsz)?,
            varz: parse(monitor, &varz)?,
            health,
        }),
        Err(silent) => Err(health.write_error().map_or(silent, |problem| {
            let monitor = monitor.to_owned();
            SetupError::CannotWrite { monitor, problem }
        })),
    }
}

async fn in_time<T>(
    monitor: &str,
    asked: impl Future<Output = Result<T, Box<dyn std::error::Error + Send + Sync>>>,
) -> Result<T, SetupError> {
    let problem = match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
    };
    let monitor = monitor.to_owned();
    Err(SetupError::Monitor { monitor, problem })
}

fn parse<T: DeserializeOwned>(monitor: &str, answer: &[u8]) -> Result<T, SetupError> {
    serde_json::from_slice(answer).map_err(|error| SetupError::Monitor {
        monitor: monitor.to_owned(),
        problem: format!("not the answer of a nats-server: {error}"),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const FULL: &str = r#"{"status":"unavailable","error":"JetStream stream '$G > EVENTS' write error: no space left on device"}"#;

    /// Asks a monitoring endpoint that answers what asks for its health with `health`, and nothing else.
    async fn ask_one_silent_but_for(health: &str) -> SetupError {
        let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = endpoint.local_addr().unwrap();
        let monitor = format!("http://{address}");
        tokio::select! {
            () = answer_health(endpoint, health) => unreachable!(),
            refused = ask(&monitor, address) => refused.map(drop).unwrap_err(),
        }
    }

    async fn answer_health(endpoint: TcpListener, health: &str) {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = endpoint.accept().await.unwrap();
            let mut request = [0; 1024];
            let octets = stream.read(&mut request).await.unwrap();
            if request[..octets].starts_with(b"GET /healthz") {
                let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-length:";
                let answer = format!("{head} {}\r\n\r\n{health}", health.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            silent.push(stream);
        }
    }

    #[tokio::test]
    async fn a_server_that_only_says_that_it_cannot_write_is_taken_at_its_word() {
        let refused = ask_one_silent_but_for(FULL).await;
        let SetupError::CannotWrite { problem, .. } = refused else {
            panic!("{refused}");
        };
        assert!(problem.contains("no space left"), "{problem}");
    }

    #[test]
    fn that_a_server_cannot_write_is_told_whoever_else_is_silent() {
        let silent = || SetupError::Monitor {
            monitor: "http://a".to_owned(),
            problem: "no answer".to_owned(),
        };
        let cannot_write = || SetupError::CannotWrite {
            monitor: "http://b".to_owned(),
            problem: FULL.to_owned(),
        };
        for missed in [
            [silent(), cannot_write(), silent()],
            [cannot_write(), silent(), silent()],
        ] {
            let mut condition = Condition::default();
            missed.into_iter().for_each(|error| condition.miss(error));
            let told = condition.unasked;
            assert!(
                matches!(told, Some(SetupError::CannotWrite { .. })),
                "{told:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_of_that_did_not_answer() {
        let refused = ask_one_silent_but_for(r#"{"status":"ok"}"#).await;
        assert!(matches!(&refused, SetupError::Monitor { .. }), "{refused}");
    }
}
