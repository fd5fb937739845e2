//! REQUIRETLS (RFC 8689): a message that asks for it leaves under TLS that verifies, to an exchanger that promises to pass
//! it on no other way, and is told so; or it bounces and says why. A field "TLS-Required: No" takes nothing of that back,
//! and nothing of what the operator requires.

use std::time::Duration;

use api::v1::{BounceClass, Event, EventKind, SubmitRequest};
use delivery::config::{RawDomain, RawTls};
use mailsim::config::{RawProvider, Tls};
use tests::{Setup, first_attempts, letter, odd_provider, raw};

use super::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(60);

/// Providers by name: their certificate, their manners, and what becomes of mail that asks for REQUIRETLS.
const PROVIDERS: [(&str, Tls, &str, &str); 6] = [
    ("promises", Tls::Verified, "", "delivered"),
    (
        "silent",
        Tls::Verified,
        "",
        "bounced: 550 5.7.30 REQUIRETLS: the peer does not offer it",
    ),
    (
        "selfsigned",
        Tls::Offered,
        "",
        "bounced: 550 5.7.10 REQUIRETLS: the session is not encrypted for a verified peer",
    ),
    (
        "none",
        Tls::Off,
        "",
        "bounced: 550 5.7.10 REQUIRETLS: the session is not encrypted for a verified peer",
    ),
    (
        "leaves",
        Tls::Verified,
        "starttls: close 454 4.7.0 not now",
        "deferred: the message requires TLS: the peer refused STARTTLS: 454 4.7.0 not now",
    ),
    (
        "cut",
        Tls::Verified,
        "tls: cut",
        "deferred: the message requires TLS: the TLS handshake failed",
    ),
];

#[tokio::test]
async fn it_is_promised_or_bounces() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(PROGRAM).configured(|config| {
        let authority = dir.path().join("authority.pem");
        config.delivery.trusted_roots = vec![authority.clone()];
        config.delivery.domains = vec![RawDomain {
            name: "operators.example".into(),
            tls: RawTls::Required,
        }];
        config.mailsim.authority = Some(authority);
        let odd = |(name, tls, manners, _)| odd_provider(name, tls, manners);
        config.mailsim.providers = PROVIDERS.map(odd).into();
        config.mailsim.providers[1] = RawProvider {
            extensions: Some(vec!["PIPELINING".into()]),
            ..odd_provider("silent", Tls::Verified, "")
        };
        let operators = odd_provider("operators", Tls::Offered, "");
        config.mailsim.providers.push(operators);
    });
    let cluster = setup.start_with(1).await?;
    let mut expected: Vec<(SubmitRequest, &str)> = PROVIDERS
        .map(|(name, _, _, expected)| (requiring(letter(&format!("ann@{name}.example"))), expected))
        .into();
    expected.extend([
        (letter("whoever@promises.example"), "delivered"),
        (letter("whoever@silent.example"), "delivered"),
        (
            requiring(careless("careless@promises.example")),
            "delivered",
        ),
        (
            requiring(careless("careless@silent.example")),
            "bounced: 550 5.7.30 ",
        ),
        (
            careless("careless@operators.example"),
            "deferred: TLS is required: ",
        ),
    ]);
    let requests = expected.iter().map(|(request, _)| request.clone());
    let first = first_attempts(&cluster.api(0)?, requests.collect(), PATIENCE).await?;
    for (request, expected) in &expected {
        let recipient = &request.recipients[0];
        let went = shown(&first[recipient]);
        assert!(went.starts_with(expected), "{recipient}: {went}");
    }
    let ledger = cluster.ledger()?;
    for entry in &ledger {
        let asked = expected
            .iter()
            .any(|(request, _)| request.require_tls && request.recipients[0] == entry.recipient);
        assert_eq!(entry.require_tls, asked, "{entry:?}");
    }
    assert_eq!(ledger.len(), 4, "{ledger:?}");
    cluster.finish().await
}

fn requiring(request: SubmitRequest) -> SubmitRequest {
    SubmitRequest {
        require_tls: true,
        ..request
    }
}

/// A message to whose sender its delivery matters more than how (RFC 8689 section 5).
fn careless(to: &str) -> SubmitRequest {
    let text = "From: orders@acme.example\r\nTLS-Required: No\r\n\r\nhello\r\n";
    raw(to, text.into())
}

/// How a message went, or why not.
fn shown(event: &Event) -> String {
    match event.kind() {
        EventKind::Delivered => "delivered".into(),
        EventKind::Bounced => {
            assert_eq!(event.bounce_class(), BounceClass::Tls, "{event:?}");
            let reply = event.reply.clone().unwrap_or_default();
            format!(
                "bounced: {} {} {}",
                reply.code, reply.enhanced_code, reply.text
            )
        }
        EventKind::Deferred => {
            let why = event.detail.split_once("]: ").unwrap_or_default().1;
            format!("deferred: {why}")
        }
        _ => format!("{event:?}"),
    }
}
