//! TLS is taken where it can be had, whatever the certificate; where it fails, mail goes in the clear or waits; and what
//! is slipped in before the handshake is never heard.

use std::time::Duration;

use api::v1::{Event, EventKind};
use mailsim::config::Tls;
use tests::{Setup, first_attempts, letter, odd_provider};

use super::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(60);

/// Providers by name: their certificate, their manners, and whether mail reaches them encrypted, in the clear or not, and
/// what the event says of the certificate.
const PROVIDERS: [(&str, Tls, &str, &str); 16] = [
    ("good", Tls::Verified, "", "encrypted and verified"),
    (
        "selfsigned",
        Tls::Offered,
        "",
        "encrypted: the certificate's issuer is not trusted",
    ),
    (
        "expired",
        Tls::Expired,
        "",
        "encrypted: the certificate has expired or is not valid yet",
    ),
    (
        "wrongname",
        Tls::WrongName,
        "",
        "encrypted: the certificate is not for this host",
    ),
    ("none", Tls::Off, "", "clear"),
    (
        "stripped",
        Tls::Offered,
        "ehlo: raw 250-mx\\r\\n250 XXXXXXXA\\r\\n",
        "clear",
    ),
    ("closes", Tls::Offered, "starttls: cut", "clear"),
    ("cut", Tls::Offered, "tls: cut", "clear"),
    ("hangs", Tls::Offered, "tls: hang", "clear"),
    (
        "garbage",
        Tls::Offered,
        "tls: raw \\x16\\x03\\xff garbage",
        "clear",
    ),
    (
        "refused",
        Tls::Offered,
        "starttls: say 454 4.7.0 not now",
        "clear",
    ),
    (
        "leaves",
        Tls::Offered,
        "starttls: close 454 4.7.0 not now",
        "clear",
    ),
    (
        "busy",
        Tls::Offered,
        "starttls: close 421 4.7.0 not now",
        "clear",
    ),
    ("silent", Tls::Offered, "starttls: hang", "clear"),
    // What it wants it has just refused: no reason to give the message up.
    (
        "insists",
        Tls::Offered,
        "starttls: say 454 4.7.0 not now; mail: say 530 5.7.0 Must issue a STARTTLS command first",
        "deferred",
    ),
    // Taken for the answer to EHLO under TLS, this would make any message too large.
    (
        "injected",
        Tls::Offered,
        "starttls: also 250-mx\\r\\n250 SIZE 1",
        "deferred",
    ),
];

#[tokio::test]
async fn mail_goes_encrypted_or_in_the_clear_or_waits() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(PROGRAM).configured(|config| {
        let authority = dir.path().join("authority.pem");
        config.delivery.reply_timeout = "5s".into();
        config.delivery.trusted_roots = vec![authority.clone()];
        config.mailsim.authority = Some(authority);
        let odd = |(name, tls, manners, _)| odd_provider(name, tls, manners);
        config.mailsim.providers = PROVIDERS.map(odd).into();
    });
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let letters = PROVIDERS.map(|(name, ..)| letter(&format!("ann@{name}.example")));
    let first = first_attempts(&api, letters.into(), PATIENCE).await?;
    for (name, tls, manner, expected) in PROVIDERS {
        let went = way(&first[&format!("ann@{name}.example")]);
        assert_eq!(went, expected, "{name}: {tls:?} {manner}");
    }
    cluster.finish().await
}

/// How a message went, and what the event says of the certificate.
fn way(event: &Event) -> String {
    let hop = event.hop.clone().unwrap_or_default();
    match event.kind() {
        EventKind::Delivered if hop.tls.is_empty() => "clear".into(),
        EventKind::Delivered if hop.tls_verification.is_empty() => "encrypted and verified".into(),
        EventKind::Delivered => format!("encrypted: {}", hop.tls_verification),
        EventKind::Deferred => "deferred".into(),
        _ => format!("{event:?}"),
    }
}
