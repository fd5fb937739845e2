//! REQUIRETLS (RFC 8689 section 4.2.1): every exchanger is asked for verified TLS and for the promise to keep it so.

use model::Domain;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use smtp::client::{Content, Envelope, Outcome, Transaction};
use smtp::server::Extension;

use super::dns::Dns;
use super::*;

const ZONE: &str = "both 60 IN MX 10 one.test.\nboth 60 IN MX 20 two.test.\nalone 60 IN MX 10 one.test.\n\
    one 60 IN A 127.0.7.1\ntwo 60 IN A 127.0.7.2\n";

/// An exchanger of that name at `listener`, with a certificate of `authority`.
async fn serve_as(
    name: &str,
    extensions: Extensions,
    authority: &CertifiedIssuer<'_, KeyPair>,
    listener: TcpListener,
) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, authority).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let settings = server::Settings {
        hostname: name.parse().unwrap(),
        extensions,
        ehlo_lines: Vec::new(),
        max_message: ByteSize(1000),
        tls: Some(Arc::new(tls)),
        limits: Limits::default(),
    };
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = serve(stream, &settings, &mut Willing, pending()).await;
    }
}

/// What becomes of a message to `domain` that requires TLS, and which exchanger said so. `one.test` does not promise,
/// `two.test` does; both are trusted if `trusting`.
async fn sent_to(domain: &str, trusting: bool) -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let roots = trusting.then(|| authority.der().clone());
    let dns = Dns::serving(ZONE).await;
    let one = TcpListener::bind("127.0.7.1:0").await.unwrap();
    let port = one.local_addr().unwrap().port();
    let two = TcpListener::bind(("127.0.7.2", port)).await.unwrap();
    let mut connector = connector(port);
    connector.routing = dns.routing();
    connector.options.tls_settings = TlsSettings::new(Arc::new(SystemClock), roots).unwrap();
    let sending = async {
        let domain: Domain = domain.parse().unwrap();
        let route = connector.routing.resolve(&domain).await.unwrap();
        let connected = connector.connect(&route, transport(Security::Promised));
        let Ok(mut connection) = connected.await else {
            panic!("no connection");
        };
        let chunks = [&b"hello\r\n"[..]];
        let content = Content::new(&chunks).unwrap();
        let recipient = format!("ann@{domain}").parse().unwrap();
        let mut envelope = Envelope::new(None, recipient, content.facts());
        envelope.require_tls = true;
        let transaction = Transaction {
            envelope: &envelope,
            content: &content,
        };
        let outcome = connection.session.send(&transaction, None, &|| true).await;
        let said = match outcome.unwrap() {
            Outcome::Delivered(_) => "delivered".to_owned(),
            Outcome::Refused(refusal) => refusal.reply.to_string(),
        };
        (said, connection.hop.mx_host)
    };
    let silent = Extensions::all().without(Extension::RequireTls);
    tokio::select! {
        said = sending => said,
        () = serve_as("one.test", silent, &authority, one) => unreachable!("it serves for ever"),
        () = serve_as("two.test", Extensions::all(), &authority, two) => unreachable!("it serves for ever"),
    }
}

#[tokio::test]
async fn a_message_that_requires_tls_goes_to_the_exchanger_that_promises_it() {
    let (said, host) = sent_to("both.test", true).await;
    assert_eq!((said.as_str(), host.as_str()), ("delivered", "two.test"));
}

#[tokio::test]
async fn where_no_exchanger_promises_tls_the_message_is_refused() {
    let (said, _) = sent_to("alone.test", true).await;
    assert_eq!(said, "550 5.7.30 REQUIRETLS: the peer does not offer it");
    let (said, _) = sent_to("both.test", false).await;
    assert!(said.starts_with("550 5.7.10 "), "{said}");
}
