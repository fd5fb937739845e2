use std::time::Duration;

use tokio::sync::oneshot;

use super::*;

#[tokio::test(start_paused = true)]
async fn who_talks_before_the_greeting_is_refused() {
    let greeting: Answer = Reply::new(220, None, "ready").into();
    let mut mailroom = Mailroom {
        greeting: Some(greeting.after(Duration::from_secs(3))),
        ..Mailroom::default()
    };
    let (told, served) = serve_with(settings(), &mut mailroom, async |mut client| {
        client.send("EHLO c\r\n").await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "554 5.5.1 you talked before the greeting\r\n");
    assert_eq!(served.unwrap(), Ended::Refused);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_late_greeting_is_greeted() {
    let greeting: Answer = Reply::new(220, None, "ready").into();
    let mut mailroom = Mailroom {
        greeting: Some(greeting.after(Duration::from_secs(3))),
        ..Mailroom::default()
    };
    let (told, _) = serve_with(settings(), &mut mailroom, async |mut client| {
        client.reply().await
    })
    .await;
    assert_eq!(told, "220 mx.example.com ready");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_for_too_long_is_told_so() {
    let (told, served, _) = session(async |mut client| {
        client.reply().await;
        client.send("NOOP").await;
        client.reply().await
    })
    .await;
    assert_eq!(told, "421 4.4.2 waited too long for you");
    assert!(matches!(served, Err(ServeError::Timeout)));
}

#[tokio::test(start_paused = true)]
async fn who_drips_a_command_has_no_more_time_than_another() {
    let (dripped, served, _) = session(async |mut client| {
        client.reply().await;
        let mut dripped = 0;
        let mut minutes = tokio::time::interval(Duration::from_secs(60));
        while client.stream.write_all(b"x").await.is_ok() {
            minutes.tick().await;
            dripped += 1;
        }
        dripped
    })
    .await;
    assert!(dripped <= 6, "{dripped}");
    assert!(matches!(served, Err(ServeError::Timeout)));
}

#[tokio::test(start_paused = true)]
async fn who_stops_in_the_middle_of_a_message_is_told_so() {
    let (told, served, _) = session(async |mut client| {
        client.begin("ann").await;
        client.say("DATA\r\n").await;
        client.send("half").await;
        client.reply().await
    })
    .await;
    assert_eq!(told, "421 4.4.2 waited too long for you");
    assert!(matches!(served, Err(ServeError::Timeout)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_a_message_leaves_no_message() {
    let (told, served, mailroom) = session(async |mut client| {
        client.begin("ann").await;
        client.say("DATA\r\n").await;
        client.send("half\r\n.\r").await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "");
    assert_eq!(served.unwrap(), Ended::PeerClosed);
    assert_eq!(mailroom.messages, []);
}

#[tokio::test(start_paused = true)]
async fn the_handler_can_close_with_a_word_or_without() {
    let (told, served, _) = session(async |mut client| {
        client.begin("ann").await;
        client.send("RCPT TO:<down@example.com>\r\nDATA\r\n").await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "421 4.3.2 down\r\n");
    assert_eq!(served.unwrap(), Ended::ByHandler);

    let (told, served, mailroom) = session(async |mut client| {
        client.begin("close").await;
        client.say("DATA\r\n").await;
        client.send("x\r\n.\r\n").await;
        client.reply().await
    })
    .await;
    assert_eq!(told, "");
    assert_eq!(served.unwrap(), Ended::ByHandler);
    assert_eq!(mailroom.messages.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_handler_can_hang_until_the_client_gives_up() {
    let (told, served, _) = session(async |mut client| {
        client.begin("hang").await;
        client.say("DATA\r\n").await;
        client.send("x\r\n.\r\n").await;
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, client.reply()).await.is_err());
        client.rest().await
    })
    .await;
    assert_eq!(told, "");
    assert_eq!(served.unwrap(), Ended::ByHandler);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_to_end_finishes_its_message_and_begins_no_other() {
    let (near, far) = duplex(64 * 1024);
    let (order, ordered) = oneshot::channel::<()>();
    let script = async {
        let mut client = Client {
            stream: near,
            received: Vec::new(),
        };
        client.begin("ann").await;
        client.say("DATA\r\n").await;
        order.send(()).unwrap();
        client.send("x\r\n.\r\nMAIL FROM:<>\r\n").await;
        assert_eq!(client.reply().await, "250 2.0.0 taken");
        client.reply().await
    };
    let drain = async {
        let _ = ordered.await;
    };
    let (settings, mut mailroom) = (settings(), Mailroom::default());
    let (told, served) = tokio::join!(script, serve(far, &settings, &mut mailroom, drain));
    assert_eq!(told, "421 4.3.2 shutting down");
    assert_eq!(served.unwrap(), Ended::Drained);
    assert_eq!(mailroom.messages.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_to_end_does_not_wait_for_an_idle_client() {
    let (near, far) = duplex(64 * 1024);
    let (order, ordered) = oneshot::channel::<()>();
    let script = async {
        let mut client = Client {
            stream: near,
            received: Vec::new(),
        };
        client.begin("ann").await;
        order.send(()).unwrap();
        client.reply().await
    };
    let drain = async {
        let _ = ordered.await;
    };
    let (settings, mut mailroom) = (settings(), Mailroom::default());
    let (told, served) = tokio::join!(script, serve(far, &settings, &mut mailroom, drain));
    assert_eq!(told, "421 4.3.2 shutting down");
    assert_eq!(served.unwrap(), Ended::Drained);
}
