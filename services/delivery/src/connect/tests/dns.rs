//! A DNS server for one zone, on loopback.

use hickory_proto::rr::Name;
use hickory_proto::serialize::txt::Parser;
use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::UdpSocket;

use super::*;

const APEX: &str = "@ 60 IN SOA ns.test. root.test. 1 60 60 60 60\n@ 60 IN NS ns.test.\n";

pub(super) struct Dns {
    _server: Server<Catalog>,
    address: SocketAddr,
}

impl Dns {
    /// Serves `records`, whose names are relative to `test.`.
    pub(super) async fn serving(records: &str) -> Self {
        let origin = Name::from_ascii("test.").unwrap();
        let parser = Parser::new(format!("{APEX}{records}"), None, Some(origin.clone()));
        let (_, records) = parser.parse().unwrap();
        let zone = InMemoryZoneHandler::<TokioRuntimeProvider>::new(
            origin.clone(),
            records,
            ZoneType::Primary,
            AxfrPolicy::Deny,
        );
        let mut catalog = Catalog::new();
        catalog.upsert(origin.into(), vec![Arc::new(zone.unwrap())]);
        let mut server = Server::new(catalog);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        server.register_socket(socket);
        Self {
            _server: server,
            address,
        }
    }

    /// Routing that asks this server.
    pub(super) fn routing(&self) -> Arc<Routing> {
        let settings = routing::Settings {
            dns_servers: vec![self.address],
            ..routing::Settings::default()
        };
        Arc::new(Routing::new(settings, Arc::new(SystemClock)).unwrap())
    }
}
