//! A DNS server on loopback that says what a test wants it to say, and a clock that shows what a test sets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::Name;
use hickory_proto::serialize::txt::Parser;
use hickory_server::Server;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use model::{Clock, Domain, Timestamp};
use routing::{Routing, Settings};
use tokio::net::{TcpListener, UdpSocket};

/// Something the server does instead of answering from its zone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Answers with this code.
    Code(ResponseCode),
    /// Does not answer.
    Silence,
}

/// What tests may change and look at while the server runs.
#[derive(Default)]
struct State {
    faults: HashMap<String, Fault>,
    asked: Vec<String>,
}

/// A running server for the zone `test.`.
pub(crate) struct Dns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: Server<Handler>,
}

struct Handler {
    zone: Catalog,
    state: Arc<Mutex<State>>,
}

/// One port for both transports. One that is free for UDP may be taken for TCP.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

impl Dns {
    /// Serves `records`, in the syntax of zone files, below `test.`.
    pub(crate) async fn serving(records: &str) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let handler = Handler {
            zone: zone(records),
            state: Arc::clone(&state),
        };
        let mut server = Server::new(handler);
        let (udp, tcp) = sockets().await;
        let address = tcp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        Self {
            address,
            state,
            _server: server,
        }
    }

    /// From now on answers `fault` for `name`, whatever the type; "*" is every name without a fault of its own.
    pub(crate) fn fail(&self, name: &str, fault: Fault) {
        self.state.lock().unwrap().faults.insert(name.into(), fault);
    }

    /// Answers from the zone again.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Every question since the last call, as "name type".
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Settings that ask this server.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            dns_servers: vec![self.address],
            ..Settings::default()
        }
    }

    /// Routing that asks this server.
    pub(crate) fn routing(&self) -> Routing {
        Routing::new(self.settings(), TestClock::new()).unwrap()
    }
}

fn zone(records: &str) -> Catalog {
    let origin = Name::from_ascii("test.").unwrap();
    let soa = "@ 3600 IN SOA ns.test. root.test. 1 3600 600 86400 60\n@ 3600 IN NS ns.test.\n";
    let parser = Parser::new(format!("{soa}{records}\n"), None, Some(origin.clone()));
    let (_, records) = parser.parse().unwrap();
    let zone = InMemoryZoneHandler::<TokioRuntimeProvider>::new(
        origin.clone(),
        records,
        ZoneType::Primary,
        AxfrPolicy::Deny,
    );
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(zone.unwrap())]);
    catalog
}

impl Handler {
    /// Notes the question, and tells what is wrong with its name.
    fn note(&self, request: &Request) -> Option<Fault> {
        let info = request.request_info().unwrap();
        let name = info.query.name().to_string();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut state = self.state.lock().unwrap();
        state
            .asked
            .push(format!("{name} {}", info.query.query_type()));
        state.faults.get(&name).or(state.faults.get("*")).copied()
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        match self.note(request) {
            None => self.zone.handle_request::<R, T>(request, response).await,
            Some(Fault::Code(code)) => {
                let answer = MessageResponseBuilder::from_message_request(request)
                    .error_msg(&request.metadata, code);
                response.send_response(answer).await.unwrap()
            }
            Some(Fault::Silence) => ResponseInfo::from(Header {
                metadata: Metadata::response_from_request(&request.metadata),
                counts: HeaderCounts::default(),
            }),
        }
    }
}

/// A clock that stands until it is moved.
pub(crate) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// A clock at the beginning of the epoch.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Timestamp::UNIX_EPOCH)))
    }

    /// Moves the clock on.
    pub(crate) fn pass(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(time).unwrap();
    }

    /// Sets the clock back.
    pub(crate) fn set_back(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_sub(time).unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// The domain of that name.
pub(crate) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}
