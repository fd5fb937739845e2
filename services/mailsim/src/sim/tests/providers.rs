use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn the_built_in_world_keeps_its_promises() {
    let world = world("").await;
    for (address, recipient, expected) in [
        ("127.0.1.1", "ann@gmail.example", "250 2.1.5 recipient ok"),
        ("127.0.1.2", "ann@yahoo.example", "250 2.1.5 recipient ok"),
        (
            "127.0.1.3",
            "ann@outlook.example",
            "451 4.7.1 greylisted, try again later",
        ),
        ("127.0.1.4", "ann@rejects.example", "550 5.1.1 no such user"),
        (
            "127.0.1.5",
            "ann@defers.example",
            "451 4.3.0 temporary system problem",
        ),
        ("127.0.1.7", "ann@slow.example", "250 2.1.5 recipient ok"),
    ] {
        let stream = TcpStream::connect((address, world.mx_port)).await.unwrap();
        let mut client = Client(BufReader::new(stream));
        client.reply().await;
        assert_eq!(client.address(recipient).await, expected);
    }
    let down = TcpStream::connect(("127.0.1.6", world.mx_port)).await;
    assert_eq!(down.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    world.end().await;
}

#[tokio::test]
async fn above_the_hidden_rate_mail_is_answered_421() {
    let world = one(r#", "rate_limit": "2/h""#).await;
    let mut client = world.greeted().await;
    client.deliver("ann@a.example", "1@sender.example").await;
    let throttled = client.say("MAIL FROM:<>").await;
    assert!(throttled.starts_with("421 4.7.0 [TSS04]"), "{throttled}");
    assert_eq!(client.reply().await, "");
    assert_eq!(world.tally.of("a").unwrap().throttled, 1);
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn above_the_connection_limit_the_greeting_is_421() {
    let world = one(r#", "max_connections": 1"#).await;
    let first = world.greeted().await;
    let greeting = world.connect().await.reply().await;
    assert_eq!(greeting, "421 4.7.0 too many connections from your address");
    drop(first);
    let counts = || world.tally.of("a").unwrap();
    assert_eq!((counts().connections, counts().turned_away), (2, 1));
    while world.connect().await.reply().await.starts_with("421 ") {}
    world.end().await;
}

#[tokio::test]
async fn latency_is_felt_at_every_reply_and_early_talkers_are_refused() {
    let world = one(r#", "latency": "50ms""#).await;
    let start = Instant::now();
    let mut client = world.greeted().await;
    client.address("ann@a.example").await;
    assert!(start.elapsed() >= Duration::from_millis(200));

    let mut early = world.connect().await;
    early.send("EHLO client.example\r\n").await;
    let refusal = early.reply().await;
    assert!(refusal.starts_with("554 5.5.1 "), "{refusal}");
    drop(client);
    drop(early);
    world.end().await;
}

#[tokio::test]
async fn greylisting_and_latency_can_be_had_together() {
    let world = one(r#", "greylist": "1h", "latency": "10ms""#).await;
    let mut client = world.greeted().await;
    let first = client.address("ann@a.example").await;
    assert!(first.starts_with("451 4.7.1 "), "{first}");
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn a_provider_is_down_when_it_says_so() {
    let windows = r#", "down": [
        {"from": "0ms", "until": "150ms"},
        {"from": "1500ms", "until": "1600ms"}
    ]"#;
    let world = one(windows).await;
    let refused = world.try_connect().await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    while world.try_connect().await.is_err() {}

    let mut client = world.greeted().await;
    assert_eq!(client.reply().await, "421 4.3.2 shutting down");
    while world.try_connect().await.is_ok() {}
    while world.try_connect().await.is_err() {}
    world.greeted().await;
    drop(client);
    world.end().await;
}
