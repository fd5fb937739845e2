//! What a server announces is kept to, and what it does not is not used: limits of a session (RFC 9422), enhanced codes,
//! chunks, and EHLO itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use api::v1::{BounceClass, EventKind};
use delivery::config::{RawChunking, RawProvider as Known};
use futures_util::StreamExt as _;
use mailsim::config::{RawProvider, RawSessionLimits, Tls};
use mailsim::ledger::Outcome;
use tests::{Setup, deliver_all, letter, provider, submit_all};
use tokio::time::timeout;

use super::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_session_holds_no_more_than_the_server_announces() -> anyhow::Result<()> {
    let limits = |mail, rcpt_domain| RawSessionLimits {
        mail,
        rcpt: Some(1),
        rcpt_domain,
    };
    let providers = [
        ("few", limits(Some(2), None)),
        ("narrow", limits(None, Some(2))),
        ("both", limits(Some(3), Some(1))),
    ];
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.delivery.limits.connections = 2;
        let limited = |(name, limits)| RawProvider {
            limits,
            ..provider(name)
        };
        config.mailsim.providers = providers.map(limited).into();
    });
    let cluster = setup.start_with(1).await?;
    let mut letters = Vec::new();
    for (name, _) in providers {
        // Domains of one provider share connections, and come mixed.
        for number in 0..40 {
            letters.push(letter(&format!("m{number}@d{}.{name}.example", number % 5)));
        }
    }
    let count = letters.len();
    let ended = deliver_all(&cluster.api(0)?, letters, PATIENCE).await?;
    assert!(ended.values().all(|kind| *kind == EventKind::Delivered));
    let ledger = cluster.ledger()?;
    // Nobody was deferred: the server never had to say that it was too much.
    assert!(
        ledger
            .iter()
            .all(|entry| entry.outcome == Outcome::Accepted)
    );
    assert_eq!(ledger.len(), count);
    let mut sessions: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for entry in ledger {
        let session = sessions.entry((entry.provider, entry.session)).or_default();
        session.push(entry.recipient);
    }
    for ((provider, session), recipients) in sessions {
        let (_, limits) = providers
            .iter()
            .find(|(name, _)| *name == provider)
            .context("a provider")?;
        let domain = |recipient: &String| recipient.split('@').nth(1).map(str::to_owned);
        let domains: BTreeSet<_> = recipients.iter().filter_map(domain).collect();
        let within =
            |limit: Option<u32>, number: usize| limit.is_none_or(|limit| number <= limit as usize);
        assert!(
            within(limits.mail, recipients.len()),
            "{provider} {session}: {recipients:?}"
        );
        assert!(
            within(limits.rcpt_domain, domains.len()),
            "{provider} {session}: {recipients:?}"
        );
    }
    cluster.finish().await
}

/// Without ENHANCEDSTATUSCODES the same mailbox is refused with 550 alone, and means no other thing.
#[tokio::test]
async fn enhanced_codes_are_read_where_they_are_and_not_missed_where_they_are_not()
-> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.mailsim.providers = vec![
            provider("enhanced"),
            RawProvider {
                extensions: Some(vec!["PIPELINING".into()]),
                ..provider("plain")
            },
        ];
    });
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let letters = ["enhanced", "plain"].map(|name| letter(&format!("bounce@{name}.example")));
    submit_all(&api, letters, |_| ()).await?;
    let mut events = api.events().await?;
    let mut said = BTreeMap::new();
    while said.len() < 2 {
        let next = timeout(PATIENCE, events.next())
            .await
            .context("nothing more happens")?;
        let event = next.context("the server ended the watch")??;
        if event.kind() == EventKind::Bounced {
            assert_eq!(
                event.bounce_class(),
                BounceClass::InvalidRecipient,
                "{event:?}"
            );
            let reply = event.reply.context("a reply")?;
            said.insert(event.recipient, (reply.code, reply.enhanced_code));
        }
    }
    assert_eq!(said["bounce@enhanced.example"], (550, "5.1.1".into()));
    assert_eq!(said["bounce@plain.example"], (550, String::new()));
    cluster.finish().await
}

/// What clients say to each provider: by DATA, by BDAT, after EHLO or HELO.
#[tokio::test]
async fn chunks_go_where_they_are_wanted_and_offered_and_helo_where_ehlo_is_not_heard()
-> anyhow::Result<()> {
    let record = tempfile::tempdir()?;
    let odd = |name: &str, manner: &str| RawProvider {
        tls: Tls::Off,
        manners: vec![manner.into()],
        ..provider(name)
    };
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.delivery.chunking = RawChunking::Offered;
        config.delivery.providers = vec![Known {
            name: "careful".into(),
            mx: vec!["mx1.never.example".into()],
            chunking: Some(RawChunking::Never),
            ..Known::default()
        }];
        config.mailsim.record = Some(record.path().to_owned());
        config.mailsim.providers = vec![
            RawProvider {
                tls: Tls::Off,
                ..provider("offered")
            },
            RawProvider {
                tls: Tls::Off,
                ..provider("never")
            },
            RawProvider {
                tls: Tls::Off,
                extensions: Some(vec!["PIPELINING".into()]),
                ..provider("unoffered")
            },
            odd("refuses", "ehlo first 1: say 502 5.5.1 what"),
            odd("hangsup", "ehlo first 1: cut"),
            odd("resets", "ehlo first 1: cut 2"),
        ];
    });
    let expected = [
        ("offered", "EHLO", "BDAT"),
        ("never", "EHLO", "DATA"),
        ("unoffered", "EHLO", "DATA"),
        ("refuses", "HELO", "DATA"),
        ("hangsup", "HELO", "DATA"),
        ("resets", "HELO", "DATA"),
    ];
    let cluster = setup.start_with(1).await?;
    let letters = expected
        .map(|(name, ..)| letter(&format!("ann@{name}.example")))
        .into();
    let ended = deliver_all(&cluster.api(0)?, letters, PATIENCE).await?;
    assert!(
        ended.values().all(|kind| *kind == EventKind::Delivered),
        "{ended:?}"
    );
    let ledger = cluster.ledger()?;
    for (name, hello, framing) in expected {
        let own: Vec<_> = ledger
            .iter()
            .filter(|entry| entry.provider == name)
            .collect();
        assert_eq!(own.len(), 1, "{name}: {own:?}");
        let file = record.path().join(format!("{name}-{}.in", own[0].session));
        let said = String::from_utf8(std::fs::read(file)?)?;
        let lines: Vec<&str> = said.lines().collect();
        let is_said = |word: &str| {
            lines
                .iter()
                .any(|line| line.split(' ').next() == Some(word))
        };
        assert!(is_said(hello) && is_said(framing), "{name}: {said}");
        assert_eq!(is_said("BDAT"), framing == "BDAT", "{name}: {said}");
    }
    cluster.finish().await
}
