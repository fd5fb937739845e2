//! Misbehaviour, as a client sees it.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// What a client does to reach each state, and what it says there. The state's reply is the next one.
const STATES: [(&str, &[&str], &str); 7] = [
    ("ehlo", &[], "EHLO c.example"),
    ("mail", &["EHLO c.example"], "MAIL FROM:<a@b.example>"),
    (
        "rcpt",
        &["EHLO c.example", "MAIL FROM:<a@b.example>"],
        "RCPT TO:<bob@a.example>",
    ),
    (
        "data",
        &[
            "EHLO c.example",
            "MAIL FROM:<a@b.example>",
            "RCPT TO:<bob@a.example>",
        ],
        "DATA",
    ),
    (
        "dot",
        &[
            "EHLO c.example",
            "MAIL FROM:<a@b.example>",
            "RCPT TO:<bob@a.example>",
            "DATA",
        ],
        "hello\r\n.",
    ),
    ("rset", &["EHLO c.example"], "RSET"),
    ("quit", &["EHLO c.example"], "QUIT"),
];

/// A client in a world with this habit, when it has reached the state.
async fn reached(habit: &str, way: &[&str]) -> (World, Client) {
    let habits = serde_json::to_string(&[habit]).unwrap();
    let world = one(&format!(r#", "manners": {habits}"#)).await;
    let mut client = world.greeted().await;
    for command in way {
        let reply = client.say(command).await;
        assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
    }
    (world, client)
}

#[tokio::test]
async fn a_provider_hangs_in_any_state_until_the_client_goes() {
    for (state, way, command) in STATES {
        let (world, mut client) = reached(&format!("{state}: hang"), way).await;
        client.send(&format!("{command}\r\n")).await;
        let silence = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(silence, client.reply()).await.is_err(),
            "{state}"
        );
        drop(client);
        world.end().await;
    }
}

#[tokio::test]
async fn a_provider_cuts_a_reply_where_it_is_told_to() {
    for (state, way, command) in STATES {
        for (habit, left) in [("cut", 0), ("cut 2", 2)] {
            let (world, mut client) = reached(&format!("{state}: {habit}"), way).await;
            client.send(&format!("{command}\r\n")).await;
            let mut rest = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut client.0, &mut rest)
                .await
                .unwrap();
            assert_eq!(rest.len(), left, "{state}: {rest:?}");
            world.end().await;
        }
    }
}

#[tokio::test]
async fn a_provider_says_something_else_and_goes_on_by_it() {
    for (state, way, command) in STATES {
        let (world, mut client) = reached(&format!("{state} first 1: say 451 4.3.0 no"), way).await;
        assert_eq!(client.say(command).await, "451 4.3.0 no", "{state}");
        if state != "quit" {
            assert_eq!(client.say("RSET").await, "250 2.0.0 ok", "{state}");
        }
        drop(client);
        let outcomes: Vec<Outcome> = world
            .end()
            .await
            .iter()
            .map(|entry| entry.outcome)
            .collect();
        let expected: &[Outcome] = if matches!(state, "rcpt" | "dot") {
            &[Outcome::Deferred]
        } else {
            &[]
        };
        assert_eq!(outcomes, expected, "{state}");
    }
}

#[tokio::test]
async fn a_dripped_reply_is_whole_in_the_end() {
    for (state, way, command) in STATES {
        let (_world, mut client) = reached(&format!("{state}: drip 2ms"), way).await;
        let began = Instant::now();
        let reply = client.say(command).await;
        assert!(reply.starts_with(['2', '3']), "{state}: {reply}");
        assert!(began.elapsed() > Duration::from_millis(2) * 10, "{state}");
    }
}

#[tokio::test]
async fn a_lie_may_be_of_any_octets_and_there_may_be_one_reply_too_many() {
    let (_world, mut client) =
        reached("mail: raw \\xff\\0no code\\r\\n", &["EHLO c.example"]).await;
    client.send("MAIL FROM:<a@b.example>\r\n").await;
    let mut line = Vec::new();
    client.0.read_until(b'\n', &mut line).await.unwrap();
    assert_eq!(line, b"\xff\0no code\r\n");
    let (_world, mut client) = reached("mail: also 250 again", &["EHLO c.example"]).await;
    assert_eq!(
        client.say("MAIL FROM:<a@b.example>").await,
        "250 2.1.0 sender ok"
    );
    assert_eq!(client.reply().await, "250 again");
    let (_world, mut client) = reached("mail: long 100000", &["EHLO c.example"]).await;
    assert_eq!(client.say("MAIL FROM:<a@b.example>").await.len(), 100_004);
}

#[tokio::test]
async fn content_is_cut_after_so_many_octets_and_nothing_is_accepted() {
    let way = [
        "EHLO c.example",
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<content-cut-20@a.example>",
        "DATA",
    ];
    let (world, mut client) = reached("greeting: wait 1ms", &way).await;
    client.send("a line of sixteen\r\nanother\r\n").await;
    assert_eq!(client.reply().await, "");
    assert!(world.end().await.is_empty());
}

#[tokio::test]
async fn a_recipient_asks_for_manners_by_its_name_and_for_its_message_only() {
    let world = one("").await;
    let mut client = world.greeted().await;
    assert_eq!(client.address("rcpt-450@a.example").await, "450 said");
    assert_eq!(client.say("RSET").await, "250 2.0.0 ok");
    assert_eq!(
        client.deliver("dot-452+1@a.example", "1@b").await,
        "452 said"
    );
    assert_eq!(
        client.deliver("ann@a.example", "2@b").await,
        "250 2.0.0 message accepted"
    );
    assert_eq!(
        client.address("dot-cut@a.example").await,
        "250 2.1.5 recipient ok"
    );
    client.say("DATA").await;
    assert_eq!(client.say("hello\r\n.").await, "");
    let outcomes: Vec<Outcome> = world
        .end()
        .await
        .iter()
        .map(|entry| entry.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Deferred,
            Outcome::Deferred,
            Outcome::Accepted,
            Outcome::Cut
        ]
    );
}

#[tokio::test]
async fn a_connection_is_reset_or_never_greeted() {
    let world = one(r#", "manners": ["connect first 1: cut", "connect: hang"]"#).await;
    let mut client = world.connect().await;
    let mut line = String::new();
    let read = client.0.read_line(&mut line).await;
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    let mut client = world.connect().await;
    let silence = Duration::from_millis(50);
    assert!(tokio::time::timeout(silence, client.reply()).await.is_err());
    world.end().await;
}
