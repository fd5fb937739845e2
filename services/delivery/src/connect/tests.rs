//! A connector against a real server on loopback.

mod dns;
mod limits;
mod promise;

use std::future::pending;
use std::time::Duration;

use model::{ByteSize, SystemClock};
use smtp::client::{Framing, TlsFailure, TlsMode, TlsSettings, Verb};
use smtp::server::{self, Answer, Extensions, Handler, Limits, Message, Recipient, Sender, serve};
use tokio::net::TcpListener;

use super::*;

/// Takes everything.
struct Willing;

impl Handler for Willing {
    async fn greet(&mut self) -> Answer {
        ok(220)
    }

    async fn mail(&mut self, _: &Sender) -> Answer {
        ok(250)
    }

    async fn rcpt(&mut self, _: &Sender, _: &Recipient) -> Answer {
        ok(250)
    }

    async fn message(&mut self, _: Message) -> Answer {
        ok(250)
    }
}

fn ok(code: u16) -> Answer {
    Answer::say(Reply::new(code, None, "ok"))
}

fn connector(port: u16) -> Connector {
    let clock = Arc::new(SystemClock);
    let tls_settings = TlsSettings::new(Arc::clone(&clock) as _, []).unwrap();
    let settings = routing::Settings {
        dns_servers: vec![SocketAddr::from(([127, 0, 0, 1], 1))],
        ..routing::Settings::default()
    };
    Connector {
        routing: Arc::new(Routing::new(settings, clock).unwrap()),
        dialable: Dialable::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new()),
        mx_port: port,
        source: "default".parse().unwrap(),
        source_address: None,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            reply: Duration::from_secs(5),
            content: Duration::from_secs(7),
            end_of_data: Duration::from_secs(5),
            idle: Duration::from_secs(5),
        },
        options: Options::new("client.example".parse().unwrap(), tls_settings),
    }
}

fn transport(security: Security) -> Transport {
    Transport {
        security,
        framing: Framing::Data,
    }
}

/// What becomes of a session with a server that knows no TLS.
async fn session_in_the_clear(security: Security) -> Result<Session, SessionError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connector = connector(address.port());
    let settings = server::Settings {
        hostname: "mx.example.com".parse().unwrap(),
        extensions: Extensions::all(),
        ehlo_lines: Vec::new(),
        max_message: ByteSize(1000),
        tls: None,
        limits: Limits::default(),
    };
    let serving = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = serve(stream, &settings, &mut Willing, pending()).await;
        }
    };
    let opening = async {
        let stream = connector.dialler().dial(address.ip()).await.unwrap();
        let hop = connector.hop(&Provider::new("acme"), "mx.example.com", address.ip());
        connector
            .open(stream, address.ip(), transport(security), &hop)
            .await
    };
    tokio::select! {
        session = opening => session,
        () = serving => unreachable!("it serves for ever"),
    }
}

#[tokio::test]
async fn mail_that_requires_tls_never_leaves_in_the_clear() {
    let error = session_in_the_clear(Security::Required).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, SessionError::Tls(TlsFailure::NotOffered)),
        "{error:?}"
    );
    assert_eq!(error.verb(), Some(Verb::Ehlo));
}

#[tokio::test]
async fn other_mail_leaves_as_well_encrypted_as_the_server_can() {
    let session = session_in_the_clear(Security::Opportunistic).await.unwrap();
    assert!(session.tls().is_none() && session.is_reusable());
}

#[test]
fn the_time_for_content_is_the_configured_one() {
    let connector = connector(25);
    let options = connector.options_for(transport(Security::Opportunistic));
    assert_eq!(options.timeouts.content, Duration::from_secs(7));
    assert_eq!(options.tls, TlsMode::Opportunistic);
}

/// The system takes 0.0.0.0 for itself, so that an operator who opened the one would have opened the other.
#[tokio::test]
async fn an_address_that_leads_elsewhere_is_judged_by_where_it_leads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut connector = connector(port);
    connector.dialable = Dialable::new(vec!["0.0.0.0/32".parse().unwrap()], Vec::new());
    let addresses = vec!["0.0.0.0".parse().unwrap()];
    let mut allowance = Allowance {
        addresses: 1,
        sessions: 1,
    };
    let hop = |address| connector.hop(&Provider::new("acme"), "mx.example.com", address);
    let transport = transport(Security::Opportunistic);
    let connected = connector.connect_to(addresses, transport, hop, &mut allowance);
    let failure = connected.await.err().flatten().unwrap();
    assert!(
        failure
            .detail
            .contains("must not be dialled: 127.0.0.1 is in"),
        "{}",
        failure.detail
    );
}
