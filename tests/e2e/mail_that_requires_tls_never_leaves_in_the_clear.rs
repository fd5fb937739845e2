//! Mail to a domain, or to a provider, for which TLS is required leaves under TLS that verifies or waits, and its sender is
//! told why. Mail of others to the same server is not held up by that.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use api::v1::{BounceClass, Event, EventKind};
use delivery::config::{RawDomain, RawProvider as Known, RawTls};
use mailsim::config::Tls;
use postrider::config::RawConfig;
use tests::{Setup, first_attempts, letter, odd_provider};

use super::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(60);

/// Providers by name: their certificate, their manners, and what becomes of mail that requires TLS.
const PROVIDERS: [(&str, Tls, &str, &str); 9] = [
    ("good", Tls::Verified, "", "verified"),
    (
        "selfsigned",
        Tls::Offered,
        "",
        "TLS is required: the peer's certificate does not verify: the certificate's issuer is not trusted",
    ),
    (
        "expired",
        Tls::Expired,
        "",
        "TLS is required: the peer's certificate does not verify: the certificate has expired or is not valid yet",
    ),
    (
        "wrongname",
        Tls::WrongName,
        "",
        "TLS is required: the peer's certificate does not verify: the certificate is not for this host",
    ),
    (
        "none",
        Tls::Off,
        "",
        "TLS is required: the peer does not offer STARTTLS",
    ),
    (
        "stripped",
        Tls::Verified,
        "ehlo: raw 250-mx\\r\\n250 XXXXXXXA\\r\\n",
        "TLS is required: the peer does not offer STARTTLS",
    ),
    (
        "refused",
        Tls::Verified,
        "starttls: say 454 4.7.0 not now",
        "TLS is required: the peer refused STARTTLS: 454 4.7.0 not now",
    ),
    (
        "cut",
        Tls::Verified,
        "tls: cut",
        "TLS is required: the TLS handshake failed",
    ),
    (
        "hangsup",
        Tls::Verified,
        "ehlo: cut",
        "connection closed by the peer at EHLO",
    ),
];

#[tokio::test]
async fn it_leaves_under_tls_that_verifies_or_waits() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let record = tempfile::tempdir()?;
    let setup = Setup::new(PROGRAM).configured(|config| world(config, dir.path(), record.path()));
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let not_offered = "TLS is required: the peer does not offer STARTTLS";
    let mut expected: BTreeMap<String, &str> = PROVIDERS
        .map(|(name, _, _, expected)| (format!("ann@{name}.example"), expected))
        .into();
    expected.insert("ann@a.below.mixed.example".into(), not_offered);
    expected.insert("ann@mixed.example".into(), "clear");
    expected.insert("ann@byprovider.example".into(), not_offered);
    let letters = expected.keys().map(|recipient| letter(recipient)).collect();
    let first = first_attempts(&api, letters, PATIENCE).await?;
    for (recipient, expected) in expected {
        let went = way(&first[&recipient]);
        assert!(went.contains(expected), "{recipient}: {went}");
    }
    assert_nothing_left_in_the_clear(record.path())?;
    cluster.finish().await
}

/// TLS is required for all but `mixed.example` itself.
fn world(config: &mut RawConfig, dir: &Path, record: &Path) {
    let authority = dir.join("authority.pem");
    let required = |name: &str| RawDomain {
        name: name.into(),
        tls: RawTls::Required,
    };
    config.delivery.trusted_roots = vec![authority.clone()];
    config.delivery.domains = PROVIDERS
        .map(|(name, ..)| required(&format!("{name}.example")))
        .into();
    config
        .delivery
        .domains
        .push(required(".below.mixed.example"));
    config.delivery.providers = vec![Known {
        name: "strict".into(),
        mx: vec!["mx1.byprovider.example".into()],
        tls: RawTls::Required,
        ..Known::default()
    }];
    config.mailsim.authority = Some(authority);
    config.mailsim.record = Some(record.to_owned());
    let odd = |(name, tls, manners, _)| odd_provider(name, tls, manners);
    config.mailsim.providers = PROVIDERS.map(odd).into();
    for name in ["mixed", "byprovider"] {
        config
            .mailsim
            .providers
            .push(odd_provider(name, Tls::Off, ""));
    }
}

/// What is recorded stands there as it came off the connection.
fn assert_nothing_left_in_the_clear(record: &Path) -> anyhow::Result<()> {
    for file in std::fs::read_dir(record)? {
        let path = file?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".in") && !name.starts_with("mixed-") {
            let octets = std::fs::read(&path)?;
            let said = String::from_utf8_lossy(&octets);
            assert!(
                !said.contains("MAIL FROM") && !said.contains("HELO"),
                "{name}: {said}"
            );
        }
    }
    Ok(())
}

/// How a message went, or why it waits.
fn way(event: &Event) -> String {
    let hop = event.hop.clone().unwrap_or_default();
    match event.kind() {
        EventKind::Delivered if hop.tls.is_empty() => "clear".into(),
        EventKind::Delivered if hop.tls_verification.is_empty() => "verified".into(),
        EventKind::Deferred if event.detail.contains("TLS is required") => {
            assert_eq!(event.bounce_class(), BounceClass::Tls, "{event:?}");
            event.detail.clone()
        }
        EventKind::Deferred => event.detail.clone(),
        _ => format!("{event:?}"),
    }
}
