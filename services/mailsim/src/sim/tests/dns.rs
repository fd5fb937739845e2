use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;

use super::*;

fn resolver(world: &World, mut connection: ConnectionConfig) -> TokioResolver {
    connection.port = world.dns_addr.port();
    let mut server = NameServerConfig::udp(world.dns_addr.ip());
    server.connections = vec![connection];
    let config = ResolverConfig::from_name_servers(vec![server]);
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    builder.options_mut().timeout = Duration::from_secs(1);
    builder.options_mut().attempts = 1;
    builder.build().unwrap()
}

async fn ask(resolver: &TokioResolver, name: &str, kind: RecordType) -> String {
    match resolver.lookup(name, kind).await {
        Ok(found) => found
            .answers()
            .iter()
            .map(|record| record.data.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        Err(error) if error.is_nx_domain() => "no such name".into(),
        Err(error) if error.is_no_records_found() => "no records".into(),
        Err(_) => "failed".into(),
    }
}

#[tokio::test]
async fn a_resolver_finds_every_provider_over_udp_and_tcp() {
    let world = world("").await;
    for connection in [ConnectionConfig::udp(), ConnectionConfig::tcp()] {
        let resolver = resolver(&world, connection);
        for (name, kind, expected) in [
            (
                "gmail.example.",
                RecordType::MX,
                "10 mx1.gmail.example., 20 mx2.gmail.example.",
            ),
            (
                "d42.outlook.example.",
                RecordType::MX,
                "10 mx1.outlook.example.",
            ),
            ("NullMX.example.", RecordType::MX, "0 ."),
            ("mx1.outlook.example.", RecordType::A, "127.0.1.3"),
            ("mx1.outlook.example.", RecordType::AAAA, "no records"),
            ("gmail.example.", RecordType::A, "no records"),
            ("_mta-sts.gmail.example.", RecordType::TXT, "no such name"),
            ("nobody.example.", RecordType::MX, "no such name"),
        ] {
            assert_eq!(ask(&resolver, name, kind).await, expected, "{name} {kind}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn broken_and_silent_name_servers_are_played() {
    let world = world("").await;
    let resolver = resolver(&world, ConnectionConfig::udp());
    assert_eq!(
        ask(&resolver, "servfail.example.", RecordType::MX).await,
        "failed"
    );
    assert_eq!(
        ask(&resolver, "timeout.example.", RecordType::MX).await,
        "failed"
    );
    world.end().await;
}
