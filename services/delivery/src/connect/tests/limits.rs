//! One attempt dials five addresses and begins two sessions at most, whatever a domain has (as Postfix does).

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use super::dns::Dns;
use super::*;

/// The address of one of seven exchangers; the first is the most preferred.
fn address(at: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 8, at)
}

/// Why an attempt gets no connection to them on `port`.
async fn refusal(port: u16) -> NotConnected {
    let record = |at| {
        let address = address(at);
        format!("many 60 IN MX {at} m{at}.test.\nm{at} 60 IN A {address}\n")
    };
    let records = (1..=7).map(record);
    let dns = Dns::serving(&records.collect::<String>()).await;
    let mut connector = connector(port);
    connector.routing = dns.routing();
    let domain = "many.test".parse().unwrap();
    let route = connector.routing.resolve(&domain).await.unwrap();
    let connected = connector.connect(&route, transport(Security::Opportunistic));
    connected.await.err().unwrap()
}

#[tokio::test]
async fn five_addresses_are_dialled_and_no_more() {
    // Held, so that nobody listens there.
    let held = TcpSocket::new_v4().unwrap();
    held.bind((address(1), 0).into()).unwrap();
    let failure = refusal(held.local_addr().unwrap().port()).await;
    let last = "connect to m5.test [127.0.8.5:";
    assert!(failure.detail.starts_with(last), "{}", failure.detail);
}

#[tokio::test]
async fn two_sessions_are_begun_and_no_more() {
    let begun = AtomicUsize::new(0);
    let first = TcpListener::bind((address(1), 0)).await.unwrap();
    let port = first.local_addr().unwrap().port();
    let others = (2..=7).map(|at| TcpListener::bind((address(at), port)));
    let others = join_all(others).await;
    let listeners: Vec<_> = std::iter::once(Ok(first)).chain(others).collect();
    let turning_away = listeners.into_iter().map(async |listener| {
        let listener = listener.unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            begun.fetch_add(1, Ordering::Relaxed);
            stream.write_all(b"554 5.3.2 not here\r\n").await.unwrap();
        }
    });
    let failure = tokio::select! {
        failure = refusal(port) => failure,
        _ = join_all::<_>(turning_away) => unreachable!("they listen for ever"),
    };
    assert_eq!(begun.load(Ordering::Relaxed), 2);
    assert_eq!(failure.refused_at, Some(Stage::Greeting), "{failure:?}");
}
