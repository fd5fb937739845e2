use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::*;

#[tokio::test]
async fn an_accepted_message_is_in_the_ledger_before_the_client_knows() {
    let world = one("").await;
    let mut client = world.greeted().await;
    let reply = client.deliver("ann@a.example", "1@sender.example").await;
    assert_eq!(reply, "250 2.0.0 message accepted");
    let entries = ledger::read(&world.ledger).unwrap();
    let entry = &entries[0];
    assert_eq!(entry.provider, "a");
    assert_eq!(entry.sender, "ann@sender.example");
    assert_eq!(entry.recipient, "ann@a.example");
    assert_eq!(entry.message_id.as_deref(), Some("1@sender.example"));
    assert_eq!(entry.size, Some(41));
    assert_eq!(entry.sha256.as_ref().map(String::len), Some(64));
    assert_eq!((entry.code, entry.outcome), (Some(250), Outcome::Accepted));
    assert_eq!(entry.tls, None);
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn another_mail_library_can_send_under_tls() {
    let world = one("").await;
    let tls = TlsParameters::builder("mx1.a.example".to_owned())
        .dangerous_accept_invalid_certs(true)
        .build()
        .unwrap();
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(FIRST)
        .port(world.mx_port)
        .tls(Tls::Required(tls))
        .build();
    let message = Message::builder()
        .from("Ann <ann@sender.example>".parse().unwrap())
        .to("Bob <bob@a.example>".parse().unwrap())
        .message_id(Some("<7@sender.example>".to_owned()))
        .subject("hello")
        .body(".a line with a dot\r\n".to_owned())
        .unwrap();
    let sent = transport.send(message).await.unwrap();
    assert_eq!(sent.code().to_string(), "250");
    drop(transport);
    let entries = world.end().await;
    assert_eq!(entries[0].tls.as_deref(), Some("TLSv1_3"));
    assert_eq!(entries[0].message_id.as_deref(), Some("7@sender.example"));
}

#[tokio::test]
async fn tls_can_be_left_out() {
    let world = one(r#", "tls": "off""#).await;
    let mut client = world.greeted().await;
    client.say("EHLO client.example").await;
    assert_eq!(client.say("STARTTLS").await, "502 5.5.1 TLS is not offered");
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn commands_injected_before_the_handshake_are_not_obeyed() {
    let world = one("").await;
    let mut client = world.greeted().await;
    client.say("EHLO client.example").await;
    client
        .send("STARTTLS\r\nMAIL FROM:<evil@sender.example>\r\n")
        .await;
    assert_eq!(client.reply().await, "554 5.5.1 improper pipelining");
    assert_eq!(client.reply().await, "");
    drop(client);
    world.end().await;
}

/// Every string over CR, LF and dot of up to five octets, inside a body, with a whole message behind it.
#[tokio::test]
async fn no_string_of_line_ends_and_dots_smuggles_a_message() {
    let world = one("").await;
    for length in 0..=5_u32 {
        for number in 0..3_usize.pow(length) {
            let octet = |place| ['\r', '\n', '.'][number / 3_usize.pow(place) % 3];
            let middle: String = (0..length).map(octet).collect();
            smuggle(&world, &middle).await;
        }
    }
    let entries = world.end().await;
    assert!(
        entries
            .iter()
            .all(|entry| !entry.recipient.starts_with("evil"))
    );
}

async fn smuggle(world: &World, middle: &str) {
    let mut client = world.greeted().await;
    client.address("ann@a.example").await;
    client.say("DATA").await;
    let evil =
        "RSET\r\nMAIL FROM:<evil@sender.example>\r\nRCPT TO:<evil@a.example>\r\nDATA\r\nevil\r\n.";
    let before = world.tally.of("a").unwrap().accepted;
    let reply = client.say(&format!("x{middle}y\r\n{evil}")).await;
    let taken = world.tally.of("a").unwrap().accepted - before;
    let bare = middle.replace("\r\n", "").contains(['\r', '\n']);
    let ends_at_once = middle == "\r\n.\r\n";
    if bare && !ends_at_once {
        assert!(reply.starts_with("550 5.6.0 "), "{middle:?}: {reply}");
        assert_eq!(client.reply().await, "", "{middle:?}");
        assert_eq!(taken, 0, "{middle:?}");
    } else {
        assert_eq!(reply, "250 2.0.0 message accepted", "{middle:?}");
        assert_eq!(taken, 1, "{middle:?}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_written_down() {
    let world = one(r#", "max_message": "1KiB""#).await;
    let mut client = world.greeted().await;
    client.address("ann@a.example").await;
    client.say("DATA").await;
    let reply = client.say(&format!("{}\r\n.", "x".repeat(1200))).await;
    assert_eq!(reply, "552 5.3.4 message too large");
    assert_eq!(client.say("NOOP").await, "250 2.0.0 ok");
    drop(client);
    let entries = world.end().await;
    assert_eq!(
        (entries[0].code, entries[0].outcome),
        (Some(552), Outcome::Rejected)
    );
}
