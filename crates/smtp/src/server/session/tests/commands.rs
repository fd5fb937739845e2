use super::*;

#[tokio::test(start_paused = true)]
async fn a_group_of_commands_is_answered_in_one_go() {
    let (told, served, mailroom) = session(async |mut client| {
        client.begin("ann").await;
        assert_eq!(client.say("DATA\r\n").await, "354 end with <CRLF>.<CRLF>");
        client
            .send("Subject: 1\r\n\r\n..x\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n")
            .await;
        for expected in ["250 2.0.0 taken", "250 2.1.0", "250 2.1.5", "354"] {
            assert!(client.reply().await.starts_with(expected), "{expected}");
        }
        client.send("two\r\n.\r\nQUIT\r\n").await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "250 2.0.0 taken\r\n221 2.0.0 bye\r\n");
    assert_eq!(served.unwrap(), Ended::Quit);
    assert_eq!(mailroom.messages[0].content, b"Subject: 1\r\n\r\n.x\r\n");
    assert_eq!(mailroom.messages[1].content, b"two\r\n");
    assert_eq!(mailroom.messages[1].envelope.sender.address, None);
}

#[tokio::test(start_paused = true)]
async fn ehlo_shows_what_is_offered_and_helo_does_not() {
    let (told, _, _) = session(async |mut client| {
        client.reply().await;
        assert_eq!(client.say("HELO c\r\n").await, "250 mx.example.com");
        client.send("EHLO c\r\n").await;
        client.rest().await
    })
    .await;
    let expected = "250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n\
                    250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 DSN\r\n";
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn commands_out_of_sequence_are_refused() {
    session(async |mut client| {
        client.reply().await;
        assert_eq!(
            client.say("MAIL FROM:<>\r\n").await,
            "503 5.5.1 send EHLO first"
        );
        client.say("EHLO c\r\n").await;
        assert_eq!(
            client.say("RCPT TO:<a@example.com>\r\n").await,
            "503 5.5.1 send MAIL first"
        );
        assert_eq!(client.say("DATA\r\n").await, "503 5.5.1 send MAIL first");
        client.say("MAIL FROM:<>\r\n").await;
        assert_eq!(
            client.say("MAIL FROM:<>\r\n").await,
            "503 5.5.1 a message is already begun"
        );
        assert_eq!(
            client.say("DATA\r\n").await,
            "554 5.5.1 no valid recipients"
        );
        client.say("RCPT TO:<bounce@example.com>\r\n").await;
        assert_eq!(
            client.say("DATA\r\n").await,
            "554 5.5.1 no valid recipients"
        );
        assert_eq!(client.say("RSET\r\n").await, "250 2.0.0 ok");
        assert_eq!(
            client.say("RCPT TO:<a@example.com>\r\n").await,
            "503 5.5.1 send MAIL first"
        );
    })
    .await
    .1
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_keeps_the_session_busy_is_sent_away() {
    for idle in [
        "NOOP\r\n",
        "RSET\r\n",
        "VRFY ann\r\n",
        "HELP\r\n",
        "EHLO c\r\n",
    ] {
        let (told, served, _) = session(async |mut client| {
            client.reply().await;
            client.say("EHLO c\r\n").await;
            for _ in 0..99 {
                client.say(idle).await;
            }
            assert_eq!(client.say("MAIL FROM:<>\r\n").await, "250 2.1.0 sender ok");
            client.say("RSET\r\n").await;
            for _ in 0..100 {
                assert!(client.say(idle).await.starts_with('2'), "{idle}");
            }
            client.say(idle).await
        })
        .await;
        assert_eq!(
            told, "421 4.7.0 too many commands without a message",
            "{idle}"
        );
        assert_eq!(served.unwrap(), Ended::Refused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_errs_too_often_is_sent_away() {
    let (told, served, _) = session(async |mut client| {
        client.reply().await;
        client.say("EHLO c\r\n").await;
        client.send("FOO\r\n".repeat(12)).await;
        client.rest().await
    })
    .await;
    assert_eq!(
        told.matches("500 5.5.2 command not recognised\r\n").count(),
        10
    );
    assert!(told.ends_with("421 4.7.0 too many errors\r\n"), "{told}");
    assert_eq!(served.unwrap(), Ended::Refused);
}

#[tokio::test(start_paused = true)]
async fn refused_recipients_are_not_errors_of_the_client() {
    session(async |mut client| {
        client.begin("ann").await;
        let many = "RCPT TO:<bounce@example.com>\r\n".repeat(50);
        assert_eq!(client.say(&many).await, "550 5.1.1 no such user");
        assert_eq!(client.say("NOOP\r\n").await, "250 2.0.0 ok");
    })
    .await
    .1
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn recipients_beyond_the_limit_are_deferred() {
    let mut settings = settings();
    settings.limits.recipients = 1;
    serve_with(settings, &mut Mailroom::default(), async |mut client| {
        client.begin("ann").await;
        let second = client.say("RCPT TO:<bob@example.com>\r\n").await;
        assert_eq!(second, "452 4.5.3 too many recipients");
    })
    .await
    .1
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_too_long_is_refused_and_the_next_one_read() {
    session(async |mut client| {
        client.reply().await;
        client.say("EHLO c\r\n").await;
        let noop = |length: usize| format!("NOOP {}\r\n", "x".repeat(length - 7));
        assert_eq!(client.say(&noop(512)).await, "250 2.0.0 ok");
        assert_eq!(client.say(&noop(513)).await, "500 5.5.2 line too long");
        assert_eq!(client.say(&noop(50_000)).await, "500 5.5.2 line too long");
        let long = format!("MAIL FROM:<> ENVID={}\r\n", "x".repeat(500));
        assert_eq!(client.say(&long).await, "250 2.1.0 sender ok");
    })
    .await
    .1
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_must_end_its_group_and_does_not_ends_the_session() {
    for group in [
        "EHLO c\r\nMAIL FROM:<>\r\n",
        "DATA\r\nhello\r\n.\r\nQUIT\r\n",
        "HELO c\r\nNOOP\r\n",
    ] {
        let (told, served, mailroom) = session(async |mut client| {
            client.begin("ann").await;
            client.send(group).await;
            client.rest().await
        })
        .await;
        assert_eq!(told, "554 5.5.1 improper pipelining\r\n", "{group}");
        assert_eq!(served.unwrap(), Ended::Refused);
        assert_eq!(mailroom.messages, []);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_extension_nothing_may_follow_a_command() {
    let (told, _, _) = session(async |mut client| {
        client.reply().await;
        client.say("HELO c\r\n").await;
        client
            .send("MAIL FROM:<>\r\nRCPT TO:<a@example.com>\r\n")
            .await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "554 5.5.1 improper pipelining\r\n");
}

#[tokio::test(start_paused = true)]
async fn enhanced_codes_are_left_out_where_they_are_not_offered() {
    let mut settings = settings();
    settings.extensions = Extensions::NONE;
    serve_with(settings, &mut Mailroom::default(), async |mut client| {
        client.reply().await;
        assert_eq!(client.say("EHLO c\r\n").await, "250 mx.example.com");
        assert_eq!(client.say("NOOP\r\n").await, "250 ok");
    })
    .await
    .1
    .unwrap();
}
