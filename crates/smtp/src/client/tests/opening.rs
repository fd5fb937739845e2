//! Greeting, EHLO and HELO.

use super::peer::Step;
use super::*;

/// Opens a session and drops it; what came of it and what the server saw.
async fn open(server: Server) -> (String, Seen) {
    let (ours, theirs) = duplex(server.buffer);
    let client = async move {
        match Session::open(ours, &mx(), &options()).await {
            Ok(session) => format!("open, {}", session.extensions().pipelining),
            Err(error) => {
                assert!(!error.is_ambiguous());
                error.to_string()
            }
        }
    };
    tokio::join!(client, server.run(theirs))
}

#[tokio::test]
async fn a_greeting_other_than_220_opens_nothing() {
    for (greeting, expected) in [
        (
            "554 5.7.1 blocked",
            "session refused at greeting: 554 5.7.1 blocked",
        ),
        (
            "421 4.7.0 busy",
            "session refused at greeting: 421 4.7.0 busy",
        ),
        (
            "521 no mail here",
            "session refused at greeting: 521 no mail here",
        ),
        (
            "250 hello",
            "protocol violation at greeting: the reply 250 hello does not answer the command",
        ),
        (
            "SSH-2.0-OpenSSH",
            "protocol violation at greeting: a line without a reply code",
        ),
    ] {
        let (shown, seen) = open(Server::offering(&[]).on(Verb::Greeting, greeting)).await;
        assert_eq!(shown, expected);
        let waits = shown.starts_with("session refused") && !greeting.starts_with("421");
        let goodbye: &[&str] = if waits { &["QUIT"] } else { &[] };
        assert_eq!(seen.commands, goodbye, "{greeting}");
    }
}

#[tokio::test]
async fn a_greeting_of_many_lines_opens() {
    let greeting = "220-mx.example\r\n220-we log everything\r\n220 ready";
    let server = Server::offering(PIPELINING).on(Verb::Greeting, greeting);
    assert_eq!(open(server).await.0, "open, true");
}

#[tokio::test]
async fn a_server_that_does_not_know_ehlo_is_greeted_with_helo() {
    let server = Server::offering(PIPELINING).on(Verb::Ehlo, "502 5.5.2 what");
    let (shown, seen) = open(server).await;
    assert_eq!(shown, "open, false");
    assert_eq!(
        seen.commands,
        ["EHLO client.example", "HELO client.example"]
    );
}

#[tokio::test]
async fn a_server_that_hangs_up_on_ehlo_can_be_greeted_with_helo_alone() {
    let (ours, theirs) = duplex(1 << 16);
    let options = Options {
        dialect: Dialect::Smtp,
        ..options()
    };
    let client = async move {
        let mut session = Session::open(ours, &mx(), &options).await.unwrap();
        assert_eq!(*session.extensions(), Extensions::default());
        show(&send(&mut session, &envelope_to("bob@b.example"), None).await)
    };
    let server = Server::offering(PIPELINING).does(Verb::Ehlo, Step::Close);
    let (shown, seen) = tokio::join!(client, server.run(theirs));
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(seen.commands[0], "HELO client.example");
}

#[tokio::test]
async fn required_tls_is_not_had_with_helo() {
    let (ours, theirs) = duplex(1 << 16);
    let options = Options {
        dialect: Dialect::Smtp,
        tls: TlsMode::Required,
        ..options()
    };
    let client = async move { Session::open(ours, &mx(), &options).await.unwrap_err() };
    let (error, seen) = tokio::join!(client, Server::offering(&["STARTTLS"]).run(theirs));
    assert_eq!(error.to_string(), "the peer does not offer STARTTLS");
    assert_eq!(seen.commands, ["HELO client.example", "QUIT"]);
}

#[tokio::test]
async fn a_server_that_wants_neither_is_left_alone() {
    let server = Server::offering(&[])
        .on(Verb::Ehlo, "550 5.7.1 go away")
        .on(Verb::Helo, "550 5.7.1 I said");
    assert_eq!(
        open(server).await.0,
        "session refused at HELO: 550 5.7.1 I said"
    );
    let server = Server::offering(&[]).on(Verb::Ehlo, "451 4.3.0 later");
    assert_eq!(
        open(server).await.0,
        "session refused at EHLO: 451 4.3.0 later"
    );
    let server = Server::offering(&[]).on(Verb::Ehlo, "354 what");
    assert_eq!(
        open(server).await.0,
        "protocol violation at EHLO: the reply 354 what does not answer the command"
    );
}

#[tokio::test]
async fn a_server_that_refuses_ehlo_and_closes_is_quoted() {
    let step = Step::SayAndClose(b"550 5.7.1 blocked\r\n".to_vec());
    let (shown, _) = open(Server::offering(&[]).does(Verb::Ehlo, step)).await;
    assert_eq!(shown, "session refused at EHLO: 550 5.7.1 blocked");
}

#[tokio::test]
async fn a_server_that_talks_out_of_turn_is_left() {
    let server = Server::offering(&[]).on(Verb::Greeting, "220 hi\r\n250 and ok");
    assert_eq!(
        open(server).await.0,
        "protocol violation at EHLO: an unsolicited reply"
    );
}

#[tokio::test]
async fn a_server_that_closes_is_named_with_the_state_it_closed_in() {
    for verb in [Verb::Greeting, Verb::Ehlo] {
        let (shown, _) = open(Server::offering(&[]).does(verb, Step::Close)).await;
        assert_eq!(shown, format!("connection closed by the peer at {verb}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_left_after_five_minutes() {
    for verb in [Verb::Greeting, Verb::Ehlo] {
        let (ours, theirs) = duplex(1 << 16);
        let server = Server::offering(&[]).does(verb, Step::Hang);
        let begun = tokio::time::Instant::now();
        let (mx, options) = (mx(), options());
        let error = tokio::select! {
            result = Session::open(ours, &mx, &options) => result.unwrap_err(),
            _ = server.run(theirs) => unreachable!("it hangs"),
        };
        assert_eq!(error.to_string(), format!("timed out at {verb}"));
        assert_eq!(begun.elapsed().as_secs(), 300);
    }
}
