//! Every set of extensions a server may offer, and messages of every kind: the outcome that follows from what was
//! offered, and what arrives is what was sent.

use model::Address;
use smtp::client::{Content, Envelope, Framing, Outcome, Party, Transaction};
use smtp::server::{Extension, Extensions};

use super::*;

/// What is on or off, besides STARTTLS.
const SWITCHES: [Extension; 5] = [
    Extension::Pipelining,
    Extension::Chunking,
    Extension::Size,
    Extension::EightBitMime,
    Extension::SmtpUtf8,
];

/// A kind of message.
struct Kind {
    recipient: &'static str,
    content: Vec<u8>,
}

fn kinds() -> [Kind; 5] {
    let kind = |recipient, body: &[u8]| Kind {
        recipient,
        content: [b"Subject: x\r\n\r\n", body].concat(),
    };
    [
        kind("bob@b.example", b".plain\r\n..\r\nand simple\r\n"),
        kind("bob@b.example", "schöne Grüße\r\n".as_bytes()),
        kind("jörg@b.example", b"plain\r\n"),
        kind("jörg@b.example", "schöne Grüße\r\n".as_bytes()),
        kind(
            "bob@b.example",
            &b"too much of a good thing\r\n".repeat(200),
        ),
    ]
}

/// How sending `kind` ends where `offered` is what the server does; `None` is delivery.
fn expected(kind: &Kind, offered: Extensions) -> Option<(Party, u16)> {
    if kind.recipient.starts_with('j') && !offered.offer(Extension::SmtpUtf8) {
        return Some((Party::Us, 553));
    }
    if kind.content.len() > 4000 {
        let by = if offered.offer(Extension::Size) {
            Party::Us
        } else {
            Party::Peer
        };
        return Some((by, 552));
    }
    None
}

fn certificate() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], made.signing_key.into())
        .unwrap();
    Arc::new(config)
}

#[tokio::test]
async fn every_set_of_extensions_takes_what_it_can_as_it_was_sent() {
    let certificate = certificate();
    for number in 0..1 << (SWITCHES.len() + 1) {
        let is_on = |(place, _): &(usize, Extension)| number >> place & 1 == 1;
        let offered = SWITCHES.into_iter().enumerate().filter(is_on);
        let offered: Extensions = offered.map(|(_, extension)| extension).collect();
        let tls = (number >> SWITCHES.len() & 1 == 1).then(|| Arc::clone(&certificate));
        for framing in [Framing::Data, Framing::Chunking] {
            check(offered, tls.clone(), framing).await;
        }
    }
}

/// Sends one message of each kind on one connection, each with the next one's envelope behind it.
async fn check(offered: Extensions, tls: Option<Arc<rustls::ServerConfig>>, framing: Framing) {
    let what = format!(
        "{:?} tls {} {framing:?}",
        offered.iter().collect::<Vec<_>>(),
        tls.is_some()
    );
    let kinds = kinds();
    let is_encrypted = tls.is_some();
    let settings = settings(offered, tls);
    let (ended, taken) = between(&settings, &options(framing), async |mut session| {
        assert_eq!(session.tls().is_some(), is_encrypted, "{what}");
        let mut ended = Vec::new();
        let envelopes: Vec<Envelope> = kinds.iter().map(envelope).collect();
        for (place, kind) in kinds.iter().enumerate() {
            let chunks = [&kind.content[..]];
            let content = Content::new(&chunks).unwrap();
            let transaction = Transaction {
                envelope: &envelopes[place],
                content: &content,
            };
            let sent = session
                .send(&transaction, envelopes.get(place + 1), &|| true)
                .await;
            ended.push(
                match sent.unwrap_or_else(|error| panic!("{what}: {error}")) {
                    Outcome::Delivered(_) => None,
                    Outcome::Refused(refusal) => Some((refusal.by, refusal.reply.code())),
                },
            );
            assert!(session.is_reusable(), "{what}");
        }
        session.quit().await;
        ended
    })
    .await;
    let outcomes: Vec<_> = kinds.iter().map(|kind| expected(kind, offered)).collect();
    assert_eq!(ended, outcomes, "{what}");
    let delivered = kinds
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.is_none());
    let delivered: Vec<&Vec<u8>> = delivered.map(|(kind, _)| &kind.content).collect();
    let arrived: Vec<&Vec<u8>> = taken.iter().map(|message| &message.content).collect();
    assert_eq!(arrived, delivered, "{what}");
    for message in taken {
        let sender = message.envelope.sender;
        let eight_bit = !message.content.is_ascii() && offered.offer(Extension::EightBitMime);
        assert_eq!(sender.eight_bit, eight_bit, "{what}");
        assert_eq!(
            sender.size.is_some(),
            offered.offer(Extension::Size),
            "{what}"
        );
    }
}

fn envelope(kind: &Kind) -> Envelope {
    let chunks = [&kind.content[..]];
    let facts = Content::new(&chunks).unwrap().facts();
    let sender: Address = "ann@a.example".parse().unwrap();
    Envelope::new(Some(sender), kind.recipient.parse().unwrap(), facts)
}
