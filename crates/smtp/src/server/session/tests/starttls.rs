use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsConnector;

use super::*;

/// A server with a certificate, and a client that trusts it.
fn encrypted() -> (Settings, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.com".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], made.signing_key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let settings = Settings {
        tls: Some(Arc::new(server)),
        ..settings()
    };
    (settings, TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn after_the_handshake_the_session_begins_anew() {
    let (settings, connector) = encrypted();
    let mut mailroom = Mailroom::default();
    serve_with(settings, &mut mailroom, async |mut client| {
        client.reply().await;
        assert_eq!(client.say("EHLO c\r\n").await, "250 STARTTLS");
        assert_eq!(client.say("STARTTLS\r\n").await, "220 2.0.0 ready for TLS");
        let name = ServerName::try_from("mx.example.com").unwrap();
        let mut stream = connector.connect(name, client.stream).await.unwrap();
        stream.write_all(b"MAIL FROM:<>\r\n").await.unwrap();
        let mut told = [0; 27];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"503 5.5.1 send EHLO first\r\n");
        stream.write_all(b"EHLO c\r\n").await.unwrap();
        let mut told = Vec::new();
        while !told.ends_with(b"250 REQUIRETLS\r\n") {
            stream.read_buf(&mut told).await.unwrap();
        }
        let told = String::from_utf8(told).unwrap();
        assert!(!told.contains("STARTTLS"), "{told}");
    })
    .await
    .1
    .unwrap();
    assert_eq!(mailroom.tls.unwrap().version, "TLSv1_3");
}

#[tokio::test(start_paused = true)]
async fn commands_sent_ahead_of_the_handshake_end_the_session() {
    let (settings, _) = encrypted();
    let mut mailroom = Mailroom::default();
    let (told, served) = serve_with(settings, &mut mailroom, async |mut client| {
        client.reply().await;
        client.say("EHLO c\r\n").await;
        client
            .send("STARTTLS\r\nRSET\r\nMAIL FROM:<evil@example.com>\r\n")
            .await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "554 5.5.1 improper pipelining\r\n");
    assert_eq!(served.unwrap(), Ended::Refused);
}

#[tokio::test(start_paused = true)]
async fn commands_instead_of_a_handshake_are_not_obeyed() {
    let (settings, _) = encrypted();
    let mut mailroom = Mailroom::default();
    let (_, served) = serve_with(settings, &mut mailroom, async |mut client| {
        client.reply().await;
        client.say("EHLO c\r\n").await;
        client.say("STARTTLS\r\n").await;
        client
            .send("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.com>\r\n")
            .await;
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"250"));
    })
    .await;
    assert!(matches!(served, Err(ServeError::Tls(_))), "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn tls_that_is_not_offered_is_refused() {
    session(async |mut client| {
        client.reply().await;
        client.say("EHLO c\r\n").await;
        assert_eq!(
            client.say("STARTTLS\r\n").await,
            "502 5.5.1 TLS is not offered"
        );
    })
    .await
    .1
    .unwrap();
}
