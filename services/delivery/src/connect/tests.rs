//! A connector against a real server on loopback.

use std::future::pending;
use std::time::Duration;

use model::{ByteSize, SystemClock};
use smtp::client::{TlsSettings, Verb};
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

fn connector(port: u16, tls_required: &[Provider]) -> Connector {
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
        tls_required: tls_required.iter().cloned().collect(),
        options: Options::new("client.example".parse().unwrap(), tls_settings),
    }
}

/// What becomes of a session with a server that knows no TLS.
async fn session_in_the_clear(tls_required: &[Provider]) -> Result<Session, SessionError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connector = connector(address.port(), tls_required);
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
        connector.open(stream, address.ip(), &hop).await
    };
    tokio::select! {
        session = opening => session,
        () = serving => unreachable!("it serves for ever"),
    }
}

#[tokio::test]
async fn mail_for_a_provider_that_requires_tls_never_leaves_in_the_clear() {
    let error = session_in_the_clear(&[Provider::new("acme")]).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, SessionError::Tls(TlsFailure::NotOffered)),
        "{error:?}"
    );
    assert_eq!(error.verb(), Some(Verb::Ehlo));
}

#[tokio::test]
async fn other_mail_leaves_as_well_encrypted_as_the_server_can() {
    let session = session_in_the_clear(&[Provider::new("other")])
        .await
        .unwrap();
    assert!(session.tls().is_none() && session.is_reusable());
}

#[test]
fn the_time_for_content_is_the_configured_one() {
    let connector = connector(25, &[]);
    let options = connector.options_for(&Provider::new("acme"));
    assert_eq!(options.timeouts.content, Duration::from_secs(7));
    assert_eq!(options.tls, TlsMode::Opportunistic);
}
