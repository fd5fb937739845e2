//! What is refused without asking, and what is said to a peer that offers it.

use super::*;

async fn asked(offered: &[&str], envelope: &Envelope) -> (String, Vec<String>) {
    let (shown, seen) = with(Server::offering(offered), async |mut session| {
        let shown = show(&send(&mut session, envelope, None).await);
        assert!(session.is_reusable());
        shown
    })
    .await;
    let asked = seen
        .dialogue()
        .iter()
        .map(|line| line.to_string())
        .collect();
    (shown, asked)
}

#[tokio::test]
async fn a_message_over_the_announced_size_is_refused_without_a_word() {
    let mut envelope = envelope_to("bob@b.example");
    envelope.content.size = 1001;
    let (shown, commands) = asked(&["SIZE 1000"], &envelope).await;
    assert_eq!(
        shown,
        "not asked: 552 5.3.4 1001 octets are more than the 1000 the peer takes"
    );
    assert!(commands.is_empty());
    envelope.content.size = 1000;
    let (shown, commands) = asked(&["SIZE 1000"], &envelope).await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(commands[0], "MAIL FROM:<ann@a.example> SIZE=1000");
}

#[tokio::test]
async fn an_address_that_is_not_ascii_needs_smtputf8() {
    let envelope = envelope_to("jörg@b.example");
    let (shown, commands) = asked(&["8BITMIME"], &envelope).await;
    assert!(shown.starts_with("not asked: 553 5.6.7 "), "{shown}");
    assert!(commands.is_empty());
    let (shown, commands) = asked(&["SMTPUTF8"], &envelope).await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(commands[0], "MAIL FROM:<ann@a.example> SMTPUTF8");
}

#[tokio::test]
async fn required_tls_is_not_left_to_a_session_in_the_clear() {
    let mut envelope = envelope_to("bob@b.example");
    envelope.require_tls = true;
    let (shown, commands) = asked(&["REQUIRETLS"], &envelope).await;
    assert!(shown.starts_with("not asked: 550 5.7.10 "), "{shown}");
    assert!(commands.is_empty());
}

#[tokio::test]
async fn eight_bit_content_is_announced_where_that_is_offered() {
    let mut envelope = envelope_to("bob@b.example");
    envelope.content.eight_bit = true;
    let (_, commands) = asked(&["8BITMIME"], &envelope).await;
    assert_eq!(commands[0], "MAIL FROM:<ann@a.example> BODY=8BITMIME");
}

const EIGHT_BIT: &[&[u8]] = &[
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    "mit freundlichen Grüßen\r\n".as_bytes(),
];
const SEVEN_BIT: &[u8] = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\nmit freundlichen Gr=C3=BC=C3=9Fen\r\n";

/// Sends `chunks` twice, the second envelope offered as the next of the first.
async fn twice(offered: &[&str], eight_bit: EightBit, chunks: &[&[u8]]) -> (Vec<String>, Seen) {
    let content = Content::new(chunks).unwrap();
    let mut envelope = envelope_to("bob@b.example");
    envelope.content = content.facts();
    let options = Options {
        eight_bit,
        ..options()
    };
    let transaction = Transaction {
        envelope: &envelope,
        content: &content,
    };
    with_options(options, Server::offering(offered), async |mut session| {
        let first = session.send(&transaction, Some(&envelope), &held).await;
        let second = session.send(&transaction, None, &held).await;
        session.quit().await;
        vec![show(&first), show(&second)]
    })
    .await
}

#[tokio::test]
async fn eight_bit_content_is_encoded_anew_for_a_peer_that_does_not_take_it() {
    for offered in [&["SIZE"][..], &["SIZE", "PIPELINING"]] {
        let (shown, seen) = twice(offered, EightBit::Reencode, EIGHT_BIT).await;
        assert_eq!(shown, ["delivered 250 2.0.0 queued"; 2]);
        assert_eq!(seen.messages, [SEVEN_BIT; 2]);
        let mail = format!("MAIL FROM:<ann@a.example> SIZE={}", SEVEN_BIT.len());
        let said = |line: &&String| line.starts_with("MAIL");
        assert!(seen.commands.iter().filter(said).all(|line| *line == mail));
    }
    let (_, seen) = twice(&["8BITMIME"], EightBit::Reencode, EIGHT_BIT).await;
    assert_eq!(seen.messages, [EIGHT_BIT.concat(), EIGHT_BIT.concat()]);
    let (_, seen) = twice(&[], EightBit::Send, EIGHT_BIT).await;
    assert_eq!(seen.messages, [EIGHT_BIT.concat(), EIGHT_BIT.concat()]);
}

#[tokio::test]
async fn eight_bit_content_that_cannot_be_encoded_anew_is_refused() {
    let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nü\r\n--b--\r\n";
    let (shown, seen) = twice(&[], EightBit::Reencode, &[signed.as_bytes()]).await;
    for shown in shown {
        assert!(shown.starts_with("not asked: 554 5.6.3 "), "{shown}");
        assert!(shown.contains("signed or encrypted"), "{shown}");
    }
    assert_eq!(seen.dialogue(), ["QUIT"]);
    let (shown, _) = twice(&[], EightBit::Refuse, EIGHT_BIT).await;
    assert!(shown[0].starts_with("not asked: 554 5.6.3 "), "{shown:?}");
}

#[tokio::test]
async fn raw_utf8_in_the_header_needs_smtputf8() {
    let message = ["Subject: grüße\r\n\r\nhi\r\n".as_bytes()];
    for offered in [&["8BITMIME"][..], &[]] {
        let (shown, seen) = twice(offered, EightBit::Reencode, &message).await;
        assert!(shown[0].starts_with("not asked: 554 5.6.9 "), "{shown:?}");
        assert_eq!(seen.dialogue(), ["QUIT"]);
    }
    let offered = ["8BITMIME", "SMTPUTF8"];
    let (shown, seen) = twice(&offered, EightBit::Reencode, &message).await;
    assert_eq!(shown, ["delivered 250 2.0.0 queued"; 2]);
    let mail = "MAIL FROM:<ann@a.example> BODY=8BITMIME SMTPUTF8";
    assert_eq!(seen.dialogue()[0], mail);
}

#[tokio::test]
async fn an_unsuitable_next_envelope_is_not_sent_ahead() {
    let (first, mut second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    second.content.size = 1 << 40;
    let server = Server::offering(&["PIPELINING", "SIZE 1000000"]);
    let (shown, seen) = with(server, async |mut session| {
        send(&mut session, &first, Some(&second)).await.unwrap();
        assert!(!session.is_ahead());
        show(&send(&mut session, &second, None).await)
    })
    .await;
    assert!(shown.starts_with("not asked: 552 5.3.4 "), "{shown}");
    assert_eq!(seen.messages.len(), 1);
}
