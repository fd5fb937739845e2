//! Every string of CR, LF and dots up to nine octets, at the beginning, in the middle and at the end of a body: one
//! message, whichever way it is framed, and no command out of it.

use std::collections::BTreeSet;

use smtp::client::{Content, Envelope, Framing, Outcome, Transaction};
use smtp::server::Extensions;

use super::*;

const LONGEST: u32 = 9;
const COMMANDS: &[u8] = b"MAIL FROM:<eve@e.example>\r\nRCPT TO:<victim@v.example>\r\nDATA\r\n";
/// Messages on one connection.
const PER_CONNECTION: usize = 5000;

/// All strings over CR, LF and dot of up to `longest` octets.
fn strings(longest: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..=longest).flat_map(|length| {
        (0..3_usize.pow(length)).map(move |number| {
            let octet = |place| b"\r\n."[number / 3_usize.pow(place) % 3];
            (0..length).map(octet).collect()
        })
    })
}

/// `raw` with each lone CR and each lone LF made CRLF, and a CRLF at its end: what ingest makes of it.
fn canonical(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut octets = raw.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The whole message around `string`.
fn message(string: &[u8]) -> Vec<u8> {
    let header: &[u8] = b"Subject: x\r\n\r\n";
    [
        header, string, b"a", string, COMMANDS, string, b"b\r\n", COMMANDS, string,
    ]
    .concat()
}

#[tokio::test]
async fn no_string_of_line_ends_and_dots_makes_two_messages_of_one() {
    assert_eq!(strings(LONGEST).count(), 29_524);
    let wanted: BTreeSet<Vec<u8>> = strings(LONGEST)
        .map(|one| canonical(&message(&one)))
        .collect();
    let wanted: Vec<Vec<u8>> = wanted.into_iter().collect();
    assert!(wanted.len() > 100);
    for framing in [Framing::Data, Framing::Chunking] {
        for part in wanted.chunks(PER_CONNECTION) {
            let settings = settings(Extensions::all(), None);
            let ((), taken) = between(&settings, &options(framing), async |mut session| {
                for content in part {
                    deliver(&mut session, content).await;
                }
                session.quit().await;
            })
            .await;
            let taken: Vec<Vec<u8>> = taken.into_iter().map(|message| message.content).collect();
            assert!(
                taken == part,
                "{framing:?}: what arrived is not what was sent"
            );
        }
    }
}

async fn deliver(session: &mut Session, content: &[u8]) {
    let chunks = [content];
    let content = Content::new(&chunks).unwrap();
    let sender = Some("ann@a.example".parse().unwrap());
    let envelope = Envelope::new(sender, "bob@b.example".parse().unwrap(), content.facts());
    let transaction = Transaction {
        envelope: &envelope,
        content: &content,
    };
    let sent = session.send(&transaction, None, &|| true).await;
    assert!(matches!(sent, Ok(Outcome::Delivered(_))), "{sent:?}");
}

#[test]
fn what_is_not_canonical_is_never_content() {
    for string in strings(LONGEST) {
        let raw = [b"a", &string[..], b"b\r\n"].concat();
        let is_canonical = canonical(&raw) == raw;
        assert_eq!(Content::new(&[&raw]).is_ok(), is_canonical, "{string:?}");
    }
}
