//! What a reader who keeps to the letter of RFC 5321 sees of the content.

use super::*;

/// Every line end as CRLF, the way ingest makes it.
fn canonical(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\r', [b'\n', behind @ ..]) => {
                out.extend_from_slice(b"\r\n");
                behind
            }
            (b'\r' | b'\n', _) => {
                out.extend_from_slice(b"\r\n");
                tail
            }
            (other, _) => {
                out.push(*other);
                tail
            }
        };
    }
    out
}

/// Takes the dots off again (RFC 5321 section 4.5.2).
fn unstuffed(wire: &[u8]) -> Vec<u8> {
    let lines = wire.split_inclusive(|octet| *octet == b'\n');
    lines
        .flat_map(|line| line.strip_prefix(b".").unwrap_or(line))
        .copied()
        .collect()
}

fn every_text_up_to(length: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut last = 0;
    for _ in 0..length {
        let begun = last;
        last = all.len();
        for at in begun..last {
            for octet in [b'\r', b'\n', b'.'] {
                let mut longer = all[at].clone();
                longer.push(octet);
                all.push(longer);
            }
        }
    }
    all
}

/// Sends `texts` one behind the other in one session; what the server received.
async fn through(server: Server, texts: &[Vec<u8>]) -> Seen {
    let (_, seen) = with(server, async |mut session| {
        let envelope = envelope_to("bob@b.example");
        for (at, text) in texts.iter().enumerate() {
            let (head, tail) = text.split_at(text.len() / 2);
            let chunks = [head, tail];
            let content = Content::new(&chunks).unwrap();
            let transaction = Transaction {
                envelope: &envelope,
                content: &content,
            };
            let next = (at + 1 < texts.len()).then_some(&envelope);
            let result = session.send(&transaction, next, &held).await;
            assert_eq!(
                show(&result),
                "delivered 250 2.0.0 queued",
                "{}",
                text.escape_ascii()
            );
        }
        session.quit().await;
    })
    .await;
    seen
}

#[tokio::test]
async fn every_text_of_line_ends_and_dots_arrives_as_one_message() {
    let texts: Vec<Vec<u8>> = every_text_up_to(6)
        .iter()
        .map(|text| canonical(text))
        .collect();
    assert_eq!(texts.len(), 1093);
    for offered in [PIPELINING, &[]] {
        let seen = through(Server::offering(offered), &texts).await;
        assert_eq!(seen.messages.len(), texts.len());
        assert_eq!(seen.dialogue().len(), 3 * texts.len() + 1);
        for (wire, text) in seen.messages.iter().zip(&texts) {
            let mut whole = text.clone();
            if !text.is_empty() && !text.ends_with(b"\r\n") {
                whole.extend_from_slice(b"\r\n");
            }
            assert_eq!(unstuffed(wire), whole, "{}", text.escape_ascii());
        }
    }
}

#[tokio::test]
async fn texts_that_are_not_canonical_are_never_content() {
    for text in every_text_up_to(6) {
        let chunks = [&text[..]];
        assert_eq!(Content::new(&chunks).is_ok(), canonical(&text) == text);
    }
}

#[tokio::test]
async fn content_of_any_size_arrives_whole() {
    let line = b".begins with a dot and is quite long, so that blocks end everywhere\r\n";
    for size in [
        1,
        32 * 1024 - 3,
        32 * 1024 - 2,
        32 * 1024,
        32 * 1024 + 1,
        1_000_003,
    ] {
        let mut text: Vec<u8> = line.iter().copied().cycle().take(size).collect();
        if text.ends_with(b"\r") {
            text.pop();
        }
        let plain = vec![b'x'; size];
        let seen = through(
            Server::offering(PIPELINING).with_buffer(5000),
            &[text.clone(), plain],
        )
        .await;
        let received = unstuffed(&seen.messages[0]);
        assert!(
            received == text || received == [&text[..], b"\r\n"].concat(),
            "{size}"
        );
        assert_eq!(seen.messages[1].len(), size + 2);
    }
}
