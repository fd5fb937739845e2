//! What holds for any octets a peer may send. Called with random ones by the tests and by `make fuzz`.

use bytes::BytesMut;
use model::Reply;

use super::reply::{RawReply, ReplyParser};
use super::{Content, Extensions, Violation};
use crate::mime;

/// However replies arrive, they are read the same; what is kept of them is bounded.
pub fn replies(octets: &[u8]) {
    let Some((piece, octets)) = octets.split_first() else {
        return;
    };
    let whole = read(octets, octets.len().max(1));
    let pieces = read(octets, usize::from(*piece) + 1);
    assert_eq!(whole, pieces, "replies depend on how they arrive");
    for raw in whole.0 {
        let _ = Extensions::parse(&raw);
        let code = raw.code();
        let reply: Reply = raw.into_reply();
        assert_eq!(reply.code(), code);
        assert!((200..600).contains(&code));
        let enhanced = reply.enhanced().map(|enhanced| u16::from(enhanced.0));
        assert!(enhanced.is_none_or(|class| class == code / 100));
        assert!(!reply.text().contains(char::is_control) && reply.text().chars().count() <= 512);
    }
}

/// All replies in `octets` that come in pieces of `piece`, and what ended them.
fn read(octets: &[u8], piece: usize) -> (Vec<RawReply>, Option<Violation>) {
    let mut parser = ReplyParser::default();
    let mut input = BytesMut::new();
    let mut replies = Vec::new();
    for piece in octets.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match parser.parse(&mut input) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(violation) => return (replies, Some(violation)),
            }
        }
    }
    (replies, None)
}

/// What becomes 7-bit is canonical and ASCII, stays so, and is no longer than its encodings make it.
pub fn seven_bit(octets: &[u8]) {
    if Content::new(&[octets]).is_err() {
        return;
    }
    let Ok(made) = mime::to_seven_bit(octets) else {
        return;
    };
    assert!(made.is_ascii() && Content::new(&[&made]).is_ok());
    assert!(made.len() <= 4 * octets.len() + 4096 || octets.len() < 64);
    assert_eq!(mime::to_seven_bit(&made).as_deref(), Ok(&made[..]));
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// What a reply is made of, and what breaks it.
    const REPLIES: &[&[u8]] = &[
        b"250",
        b"2",
        b"5",
        b"50",
        b"354",
        b"421",
        b"550",
        b" ",
        b"-",
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b"\xff",
        b"5.7.1",
        b"2.0.0 ",
        b".",
        b"SIZE 1000",
        b"LIMITS MAILMAX=",
        b"PIPELINING",
        "ü".as_bytes(),
        &[b'x'; 600],
    ];
    /// What a message is made of.
    const MESSAGES: &[&[u8]] = &[
        b"Subject: s",
        b"Content-Type: ",
        b"multipart/mixed; boundary=",
        b"multipart/digest; boundary=\"",
        b"\"",
        b"b",
        b"message/rfc822",
        b"Content-Transfer-Encoding: ",
        b"8bit",
        b"base64",
        b"--",
        b"--b",
        b"--b--",
        b"\r\n",
        b"\r\n\r\n",
        b" ",
        b";",
        b"=",
        b"\xff",
        "ü".as_bytes(),
        &[b'x'; 80],
    ];

    fn made_of(tokens: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
        vec(select(tokens), 0..40).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn any_replies_are_read_the_same_however_they_arrive(piece: u8, octets in made_of(REPLIES)) {
            super::replies(&[&[piece % 8], &octets[..]].concat());
        }

        #[test]
        fn any_message_becomes_seven_bit_or_says_why_not(octets in made_of(MESSAGES)) {
            super::seven_bit(&octets);
        }
    }
}
