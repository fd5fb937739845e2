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
    assert!(shown.starts_with("not asked: 550 5.7.30 "), "{shown}");
    assert!(commands.is_empty());
}

#[tokio::test]
async fn eight_bit_content_goes_as_it_is_unless_told_otherwise() {
    let mut envelope = envelope_to("bob@b.example");
    envelope.content.eight_bit = true;
    let (_, commands) = asked(&["8BITMIME"], &envelope).await;
    assert_eq!(commands[0], "MAIL FROM:<ann@a.example> BODY=8BITMIME");
    let (shown, commands) = asked(&[], &envelope).await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(commands[0], "MAIL FROM:<ann@a.example>");
    let mut options = options();
    options.eight_bit = EightBit::Refuse;
    let (shown, _) = with_options(options, Server::offering(&[]), async |mut session| {
        show(&send(&mut session, &envelope, None).await)
    })
    .await;
    assert!(shown.starts_with("not asked: 554 5.6.3 "), "{shown}");
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
