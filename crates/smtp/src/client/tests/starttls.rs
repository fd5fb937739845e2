//! STARTTLS: what is offered, what is injected, and whose certificate it is.

use std::time::Duration;

use model::{Clock, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::HandshakeKind;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;

use super::peer::Step;
use super::*;

/// An authority that we may trust, and servers with certificates of its making.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_string()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn options_with(tls: TlsMode, settings: TlsSettings) -> Options {
    let mut options = options();
    options.tls = tls;
    options.tls_settings = settings;
    options
}

fn trusting(authority: &Authority) -> TlsSettings {
    TlsSettings::new(Arc::new(SystemClock), [authority.root()]).unwrap()
}

/// Says everything up to the reply to STARTTLS in the clear, then serves under TLS.
async fn serve(acceptor: TlsAcceptor, theirs: DuplexStream) -> (Seen, Option<HandshakeKind>) {
    serve_offering(PIPELINING, acceptor, theirs).await
}

async fn serve_offering(
    offered: &[&str],
    acceptor: TlsAcceptor,
    theirs: DuplexStream,
) -> (Seen, Option<HandshakeKind>) {
    let theirs = in_the_clear(theirs, b"220 2.0.0 go ahead\r\n").await;
    let Ok(stream) = acceptor.accept(theirs).await else {
        return (Seen::default(), None);
    };
    let kind = stream.get_ref().1.handshake_kind();
    let silent = Server::offering(offered).does(Verb::Greeting, Step::Say(Vec::new()));
    (silent.run(stream).await, kind)
}

async fn in_the_clear(theirs: DuplexStream, reply: &[u8]) -> DuplexStream {
    let mut io = BufReader::new(theirs);
    let mut line = String::new();
    io.write_all(b"220 hi\r\n").await.unwrap();
    io.read_line(&mut line).await.unwrap();
    io.write_all(b"250-mx\r\n250-XCLEAR\r\n250-SIZE 1\r\n250 STARTTLS\r\n")
        .await
        .unwrap();
    io.read_line(&mut line).await.unwrap();
    assert_eq!(line, "EHLO client.example\r\nSTARTTLS\r\n");
    io.write_all(reply).await.unwrap();
    assert!(io.buffer().is_empty());
    io.into_inner()
}

/// Opens a session with a server that has a certificate for `name`, sends a message, and tells what it saw of TLS.
async fn secured(
    options: Options,
    authority: &Authority,
    name: &str,
) -> Result<TlsDetails, SessionError> {
    let (ours, theirs) = duplex(1 << 16);
    let client = async move {
        let mut session = Session::open(ours, &mx(), &options).await?;
        let outcome = send(&mut session, &envelope_to("bob@b.example"), None).await;
        assert_eq!(show(&outcome), "delivered 250 2.0.0 queued");
        let details = session.tls().cloned().unwrap();
        session.quit().await;
        Ok(details)
    };
    let (result, (seen, _)) = tokio::join!(client, serve(authority.acceptor(name), theirs));
    assert_eq!(seen.messages.len(), usize::from(result.is_ok()));
    result
}

#[tokio::test]
async fn a_trusted_certificate_for_the_peer_is_verified() {
    let authority = Authority::new();
    for mode in [TlsMode::Opportunistic, TlsMode::Required] {
        let options = options_with(mode, trusting(&authority));
        let details = secured(options, &authority, "mx.example").await.unwrap();
        assert_eq!((details.version, details.verification), ("TLSv1_3", Ok(())));
        assert!(
            details.cipher.starts_with("TLS13_AES_"),
            "{}",
            details.cipher
        );
    }
}

/// RFC 8689 section 4.2.1: over TLS that is verified, to a peer that offers REQUIRETLS there, or not at all.
#[tokio::test]
async fn a_message_that_requires_tls_goes_only_to_a_verified_peer_that_promises_the_same() {
    let authority = Authority::new();
    for (name, offered, expected) in [
        ("mx.example", "REQUIRETLS", "delivered 250 2.0.0 queued"),
        (
            "other.example",
            "REQUIRETLS",
            "not asked: 550 5.7.10 REQUIRETLS: the session is not encrypted for a verified peer",
        ),
        (
            "mx.example",
            "DSN",
            "not asked: 550 5.7.30 REQUIRETLS: the peer does not offer it",
        ),
    ] {
        let options = options_with(TlsMode::Opportunistic, trusting(&authority));
        let (ours, theirs) = duplex(1 << 16);
        let client = async move {
            let mut session = Session::open(ours, &mx(), &options).await.unwrap();
            let mut envelope = envelope_to("bob@b.example");
            envelope.require_tls = true;
            let shown = show(&send(&mut session, &envelope, None).await);
            session.quit().await;
            shown
        };
        let offered = [offered];
        let serving = serve_offering(&offered, authority.acceptor(name), theirs);
        let (shown, (seen, _)) = tokio::join!(client, serving);
        assert_eq!(shown, expected);
        let promised = seen
            .commands
            .iter()
            .any(|line| line.ends_with(" REQUIRETLS"));
        assert_eq!(promised, shown.starts_with("delivered"));
    }
}

#[tokio::test]
async fn a_bad_certificate_is_recorded_where_tls_is_opportunistic_and_fatal_where_it_is_required() {
    struct Later;
    impl Clock for Later {
        fn now(&self) -> Timestamp {
            SystemClock.now() + Duration::from_secs(3000 * 365 * 86_400)
        }
    }
    let authority = Authority::new();
    let later = TlsSettings::new(Arc::new(Later), [authority.root()]).unwrap();
    let nobody = TlsSettings::new(Arc::new(SystemClock), []).unwrap();
    for (settings, name, expected) in [
        (
            trusting(&authority),
            "other.example",
            VerificationFailure::NameMismatch,
        ),
        (nobody, "mx.example", VerificationFailure::Untrusted),
        (later, "mx.example", VerificationFailure::Expired),
    ] {
        let options = options_with(TlsMode::Opportunistic, settings.clone());
        let details = secured(options, &authority, name).await.unwrap();
        assert_eq!(details.verification, Err(expected.clone()));
        let options = options_with(TlsMode::Required, settings);
        let error = secured(options, &authority, name).await.unwrap_err();
        assert!(
            matches!(&error, SessionError::Tls(TlsFailure::Unverified(why)) if *why == expected),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_resumed_session_is_verified_like_a_new_one() {
    let authority = Authority::new();
    let settings = TlsSettings::new(Arc::new(SystemClock), []).unwrap();
    let acceptor = authority.acceptor("mx.example");
    let visit = async |mode| {
        let options = options_with(mode, settings.clone());
        let (ours, theirs) = duplex(1 << 16);
        let client = async move {
            let session = Session::open(ours, &mx(), &options).await?;
            let verification = session.tls().unwrap().verification.clone();
            session.quit().await;
            Ok::<_, SessionError>(verification)
        };
        let (result, (_, kind)) = tokio::join!(client, serve(acceptor.clone(), theirs));
        (result, kind)
    };
    let (first, kind) = visit(TlsMode::Opportunistic).await;
    assert_eq!(first.unwrap(), Err(VerificationFailure::Untrusted));
    assert_ne!(kind, Some(HandshakeKind::Resumed));
    let (second, kind) = visit(TlsMode::Opportunistic).await;
    assert_eq!(second.unwrap(), Err(VerificationFailure::Untrusted));
    assert_eq!(kind, Some(HandshakeKind::Resumed));
    let (third, _) = visit(TlsMode::Required).await;
    assert!(
        matches!(third, Err(SessionError::Tls(TlsFailure::Unverified(_)))),
        "{third:?}"
    );
}

#[tokio::test]
async fn what_was_offered_in_the_clear_is_forgotten() {
    let authority = Authority::new();
    let options = options_with(TlsMode::Required, trusting(&authority));
    let (ours, theirs) = duplex(1 << 16);
    let client = async move {
        let session = Session::open(ours, &mx(), &options).await.unwrap();
        session.extensions().clone()
    };
    let (offered, _) = tokio::join!(client, serve(authority.acceptor("mx.example"), theirs));
    assert!(offered.pipelining && !offered.size && !offered.starttls);
}

#[tokio::test]
async fn octets_glued_behind_the_reply_to_starttls_end_the_session() {
    for injected in ["250-evil\r\n250 XEVIL\r\n", "2", "\r\n"] {
        let (ours, theirs) = duplex(1 << 16);
        let options = options_with(TlsMode::Opportunistic, options().tls_settings);
        let reply = format!("220 2.0.0 go ahead\r\n{injected}");
        let client = async move { Session::open(ours, &mx(), &options).await.map(drop) };
        let (result, _) = tokio::join!(client, in_the_clear(theirs, reply.as_bytes()));
        assert!(
            matches!(result, Err(SessionError::Tls(TlsFailure::Injected))),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn starttls_that_is_missing_or_refused_matters_only_where_tls_is_required() {
    let refusing = || Server::offering(&["STARTTLS"]).on(Verb::StartTls, "454 4.7.0 no TLS now");
    let stripped = || Server::offering(&["XXXXXXXA"]);
    for server in [refusing(), stripped()] {
        let options = options_with(TlsMode::Opportunistic, options().tls_settings);
        let (shown, _) = with_options(options, server, async |mut session| {
            assert!(session.tls().is_none());
            show(&send(&mut session, &envelope_to("bob@b.example"), None).await)
        })
        .await;
        assert_eq!(shown, "delivered 250 2.0.0 queued");
    }
    for (server, expected) in [
        (
            refusing(),
            "the peer refused STARTTLS: 454 4.7.0 no TLS now",
        ),
        (stripped(), "the peer does not offer STARTTLS"),
    ] {
        let options = options_with(TlsMode::Required, options().tls_settings);
        let (ours, theirs) = duplex(1 << 16);
        let client = async move { Session::open(ours, &mx(), &options).await.unwrap_err() };
        let (error, seen) = tokio::join!(client, server.run(theirs));
        assert_eq!(error.to_string(), expected);
        assert!(!seen.commands.iter().any(|line| line.starts_with("MAIL")));
        assert_eq!(seen.commands.last().unwrap(), "QUIT");
    }
}

/// It is told as what it is, so that the caller can come back without TLS, and no message is lost to it.
#[tokio::test]
async fn a_peer_that_refuses_starttls_and_leaves_has_refused_starttls() {
    let refusal = "454 4.7.0 no TLS now";
    let refusing = || Server::offering(&["STARTTLS"]);
    let at_once = Step::SayAndClose(format!("{refusal}\r\n").into_bytes());
    let later = refusing().on(Verb::StartTls, refusal);
    let hello = || Step::Say(b"250-mx.example\r\n250 STARTTLS\r\n".to_vec());
    for server in [
        refusing().does(Verb::StartTls, at_once),
        later
            .does(Verb::Ehlo, hello())
            .does(Verb::Ehlo, Step::Close),
    ] {
        let options = options_with(TlsMode::Opportunistic, options().tls_settings);
        let (ours, theirs) = duplex(1 << 16);
        let client = async move { Session::open(ours, &mx(), &options).await.unwrap_err() };
        let (error, _) = tokio::join!(client, server.run(theirs));
        let expected = format!("the peer refused STARTTLS: {refusal}");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_handshake_that_fails_is_named() {
    let options = options_with(TlsMode::Opportunistic, options().tls_settings);
    let (ours, theirs) = duplex(1 << 16);
    let client = async move { Session::open(ours, &mx(), &options).await.unwrap_err() };
    let peer = async move {
        let mut theirs = in_the_clear(theirs, b"220 go ahead\r\n").await;
        theirs.read_u8().await.unwrap();
        theirs.write_all(b"this is no TLS record").await.unwrap();
        theirs
    };
    let (error, _) = tokio::join!(client, peer);
    assert!(
        matches!(error, SessionError::Tls(TlsFailure::Handshake(_))),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_is_left_after_a_minute() {
    let options = options_with(TlsMode::Opportunistic, options().tls_settings);
    let (ours, theirs) = duplex(1 << 16);
    let client = async move { Session::open(ours, &mx(), &options).await.unwrap_err() };
    let peer = in_the_clear(theirs, b"220 go ahead\r\n");
    let begun = tokio::time::Instant::now();
    let (error, _peer) = tokio::join!(client, peer);
    assert!(
        matches!(
            error,
            SessionError::Timeout {
                verb: Verb::Handshake
            }
        ),
        "{error:?}"
    );
    assert_eq!(begun.elapsed().as_secs(), 60);
}
