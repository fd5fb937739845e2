use super::*;

/// Every string over CR, LF and dot of up to `most` octets.
fn strings(most: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..=most).flat_map(|length| {
        (0..3_usize.pow(length)).map(move |number| {
            let octet = |place| b"\r\n."[number / 3_usize.pow(place) % 3];
            (0..length).map(octet).collect()
        })
    })
}

/// What a strict reader says of `sent`: the content before the first CRLF.CRLF, and whether it is well-formed.
fn strictly(sent: &[u8]) -> (Vec<u8>, bool) {
    let framed = [b"\r\n", sent].concat();
    let end = memchr::memmem::find(&framed, b"\r\n.\r\n").unwrap();
    let stuffed = String::from_utf8(framed[..end + 2].to_vec()).unwrap();
    let bare = stuffed.replace("\r\n", "");
    let content = stuffed.replace("\r\n.", "\r\n")[2..].to_owned();
    (content.into_bytes(), !bare.contains(['\r', '\n']))
}

#[tokio::test(start_paused = true)]
async fn no_string_of_line_ends_and_dots_smuggles_a_message() {
    for middle in strings(5) {
        let inner =
            b"\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<evil@example.com>\r\nDATA\r\nevil";
        let sent = [b"a", &middle[..], inner, &middle[..], b"z\r\n.\r\n"].concat();
        let (expected, well_formed) = strictly(&sent);
        let ends_early = memchr::memmem::find(&expected, b"evil").is_none();
        let (told, served, mailroom) = session(async |mut client| {
            client.begin("ann").await;
            client.say("DATA\r\n").await;
            client.send(&sent).await;
            client.rest().await
        })
        .await;
        if !well_formed {
            assert!(
                told.starts_with("550 5.6.0 message contains a bare"),
                "{middle:?}: {told}"
            );
            assert_eq!(told.matches("\r\n").count(), 1, "{middle:?}: {told}");
            assert_eq!(mailroom.messages, [], "{middle:?}");
            assert_eq!(mailroom.refusals.len(), 1);
            assert_eq!(served.unwrap(), Ended::Refused);
            continue;
        }
        assert_eq!(mailroom.messages[0].content, expected, "{middle:?}");
        assert!(mailroom.messages.len() == 1 || ends_early, "{middle:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nul_is_refused_after_the_true_end() {
    let (told, served, mailroom) = session(async |mut client| {
        client.begin("ann").await;
        client.say("DATA\r\n").await;
        client.send(b"a\0b\r\n.\r\nNOOP\r\n").await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "550 5.6.0 message contains a NUL\r\n");
    assert_eq!(served.unwrap(), Ended::Refused);
    assert_eq!(mailroom.messages, []);
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_is_refused_and_the_session_goes_on() {
    let (_, _, mailroom) = session(async |mut client| {
        client.begin("ann").await;
        client.say("DATA\r\n").await;
        client
            .send([&b"x".repeat(1001)[..], b"\r\n.\r\n"].concat())
            .await;
        assert_eq!(client.reply().await, "552 5.3.4 message too large");
        assert_eq!(
            client.say("MAIL FROM:<> SIZE=1001\r\n").await,
            "552 5.3.4 message too large"
        );
        assert_eq!(
            client.say("MAIL FROM:<> SIZE=1000\r\n").await,
            "250 2.1.0 sender ok"
        );
    })
    .await;
    assert_eq!(mailroom.messages, []);
    assert_eq!(mailroom.refusals[0].1.code(), 552);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_exactly_the_limit_is_taken() {
    let (_, _, mailroom) = session(async |mut client| {
        client.begin("ann").await;
        client.say("DATA\r\n").await;
        client
            .send([&b"x".repeat(998)[..], b"\r\n.\r\n"].concat())
            .await;
        assert_eq!(client.reply().await, "250 2.0.0 taken");
    })
    .await;
    assert_eq!(mailroom.messages[0].content.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn who_sends_twice_the_limit_is_cut_off() {
    let (told, served, _) = session(async |mut client| {
        client.begin("ann").await;
        client.say("DATA\r\n").await;
        client.send(b"x".repeat(3000)).await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "552 5.3.4 message too large\r\n");
    assert_eq!(served.unwrap(), Ended::Refused);
}

#[tokio::test(start_paused = true)]
async fn chunks_make_a_message() {
    let (_, _, mailroom) = session(async |mut client| {
        client.begin("ann").await;
        client
            .send("BDAT 6\r\n.one\r\nBDAT 5 LAST\r\ntwo\r\nNOOP\r\n")
            .await;
        assert_eq!(client.reply().await, "250 2.0.0 6 octets received");
        assert_eq!(client.reply().await, "250 2.0.0 taken");
        assert_eq!(client.reply().await, "250 2.0.0 ok");
    })
    .await;
    assert_eq!(mailroom.messages[0].content, b".one\r\ntwo\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_out_of_sequence_is_read_and_not_obeyed() {
    let (_, _, mailroom) = session(async |mut client| {
        client.reply().await;
        client.say("EHLO c\r\n").await;
        client.send("BDAT 6 LAST\r\nRSET\r\nNOOP\r\n").await;
        assert_eq!(client.reply().await, "503 5.5.1 send MAIL first");
        assert_eq!(client.reply().await, "250 2.0.0 ok");
    })
    .await;
    assert_eq!(mailroom.messages, []);
}

#[tokio::test(start_paused = true)]
async fn data_and_chunks_do_not_mix() {
    session(async |mut client| {
        client.begin("ann").await;
        client.send("BDAT 3\r\na\r\n").await;
        client.reply().await;
        assert_eq!(
            client.say("DATA\r\n").await,
            "503 5.5.1 the message began with BDAT"
        );
        let late = client.say("RCPT TO:<b@example.com>\r\n").await;
        assert_eq!(late, "503 5.5.1 content has already begun");
        client.send("BDAT 0 LAST\r\n").await;
        assert_eq!(client.reply().await, "250 2.0.0 taken");
    })
    .await
    .1
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn chunks_over_the_limit_lose_the_message() {
    let (_, _, mailroom) = session(async |mut client| {
        client.begin("ann").await;
        client
            .send([b"BDAT 1001\r\n", &b"x".repeat(1001)[..]].concat())
            .await;
        assert_eq!(client.reply().await, "552 5.3.4 message too large");
        client.send("BDAT 1 LAST\r\nx").await;
        assert_eq!(client.reply().await, "503 5.5.1 send MAIL first");
        assert_eq!(client.say("NOOP\r\n").await, "250 2.0.0 ok");
    })
    .await;
    assert_eq!(mailroom.refusals.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_of_unknown_size_ends_the_session() {
    let (told, served, _) = session(async |mut client| {
        client.begin("ann").await;
        client.send("BDAT many\r\nQUIT\r\n").await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "501 5.5.4 write BDAT chunk-size [LAST]\r\n");
    assert_eq!(served.unwrap(), Ended::Refused);
}

#[tokio::test(start_paused = true)]
async fn chunks_with_bare_line_ends_are_refused() {
    let (told, served, _) = session(async |mut client| {
        client.begin("ann").await;
        client.send("BDAT 2\r\na\nBDAT 0 LAST\r\n").await;
        client.rest().await
    })
    .await;
    assert_eq!(told, "550 5.6.0 message contains a bare LF\r\n");
    assert_eq!(served.unwrap(), Ended::Refused);
}
