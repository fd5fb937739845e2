use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;

#[tokio::test]
async fn mailboxes_answer_rcpt_by_their_name() {
    let world = one("").await;
    for (recipient, expected) in [
        ("success@a.example", "250 2.1.5 recipient ok"),
        ("anything@d7.a.example", "250 2.1.5 recipient ok"),
        ("bounce@a.example", "550 5.1.1 no such user"),
        ("bounce+17@a.example", "550 5.1.1 no such user"),
        ("full@a.example", "452 4.2.2 mailbox full"),
        ("defer@a.example", "451 4.3.0 temporary system problem"),
        (
            "greylist@a.example",
            "451 4.7.1 greylisted, try again later",
        ),
        ("ann@b.example", "550 5.7.1 relaying denied"),
    ] {
        assert_eq!(
            world.greeted().await.address(recipient).await,
            expected,
            "{recipient}"
        );
    }
    let entries = world.end().await;
    let outcomes: Vec<Outcome> = entries.iter().map(|entry| entry.outcome).collect();
    use Outcome::{Deferred, Rejected};
    assert_eq!(
        outcomes,
        [Rejected, Rejected, Deferred, Deferred, Deferred, Rejected]
    );
    assert_eq!(entries[0].reply, "550 5.1.1 no such user");
    assert_eq!(entries[0].code, Some(550));
    assert_eq!((entries[0].size, &entries[0].sha256), (None, &None));
}

#[tokio::test]
async fn mxdown_closes_the_connection() {
    let world = one("").await;
    let mut client = world.greeted().await;
    assert_eq!(
        client.address("mxdown@a.example").await,
        "421 4.3.2 system going down"
    );
    assert_eq!(client.reply().await, "");
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn greylist_accepts_a_retry_after_its_delay() {
    let world = one("").await;
    let mut client = world.greeted().await;
    let start = Instant::now();
    while client
        .address("greylist@a.example")
        .await
        .starts_with("451 4.7.1 ")
    {
        client.say("RSET").await;
    }
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(90), "{waited:?}");
    client.say("RSET").await;
    let other = client.address("greylist+other@a.example").await;
    assert!(other.starts_with("451 4.7.1 "), "{other}");
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn spam_is_rejected_at_the_end_for_all_recipients() {
    let world = one("").await;
    let mut client = world.greeted().await;
    client.address("spam@a.example").await;
    client.say("RCPT TO:<success@a.example>").await;
    client.say("DATA").await;
    assert_eq!(
        client.say("hello\r\n.").await,
        "554 5.7.1 message looks like spam"
    );
    drop(client);
    let entries = world.end().await;
    assert_eq!(entries.len(), 2);
    assert!(
        entries
            .iter()
            .all(|entry| entry.outcome == Outcome::Rejected)
    );
    assert_eq!(entries[1].size, Some(7));
}

#[tokio::test]
async fn slow_takes_its_time_at_every_reply() {
    let world = one("").await;
    let mut client = world.greeted().await;
    let start = Instant::now();
    let reply = client.deliver("slow@a.example", "1@sender.example").await;
    assert_eq!(reply, "250 2.0.0 message accepted");
    assert!(start.elapsed() >= Duration::from_millis(600));
    let start = Instant::now();
    client
        .deliver("success@a.example", "2@sender.example")
        .await;
    assert!(start.elapsed() < Duration::from_millis(300));
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn drop_closes_after_the_dot_once_and_then_accepts() {
    let world = one("").await;
    let mut client = world.greeted().await;
    assert_eq!(
        client.deliver("drop@a.example", "1@sender.example").await,
        ""
    );
    let mut client = world.greeted().await;
    let again = client.deliver("drop@a.example", "1@sender.example").await;
    assert_eq!(again, "250 2.0.0 message accepted");
    assert_eq!(
        client.deliver("drop@a.example", "2@sender.example").await,
        ""
    );
    let counts = world.tally.of("a").unwrap();
    assert_eq!((counts.accepted, counts.cut), (1, 2));
    drop(client);
    let entries = world.end().await;
    let outcomes: Vec<Outcome> = entries.iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes, [Outcome::Cut, Outcome::Accepted, Outcome::Cut]);
    assert_eq!((entries[0].code, entries[0].reply.as_str()), (None, ""));
}

#[tokio::test]
async fn hang_never_replies_and_does_not_hold_up_the_end() {
    let world = one("").await;
    let mut client = world.greeted().await;
    let hung = client.deliver("hang@a.example", "1@sender.example");
    assert!(timeout(Duration::from_millis(200), hung).await.is_err());
    let start = Instant::now();
    let entries = world.end().await;
    assert!(start.elapsed() < DRAIN);
    assert_eq!(entries[0].outcome, Outcome::Cut);
}
