//! Peers that hang, drip or close in every state.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::peer::Step;
use super::*;

const TRANSACTION: [Verb; 4] = [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::EndOfData];

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_costs_the_time_of_its_state_and_not_more() {
    for offered in [PIPELINING, &[]] {
        for verb in TRANSACTION {
            let server = Server::offering(offered).does(verb, Step::Hang);
            let (ours, theirs) = duplex(server.buffer);
            let client = async move {
                let mut session = Session::open(ours, &mx(), &options()).await.unwrap();
                let begun = Instant::now();
                let error = send(&mut session, &envelope_to("bob@b.example"), None).await;
                (error.unwrap_err(), begun.elapsed(), session.is_reusable())
            };
            let (error, took, reusable) = tokio::select! {
                done = client => done,
                _ = server.run(theirs) => unreachable!("it hangs"),
            };
            assert!(
                matches!(error, SessionError::Timeout { verb: at } if at == verb),
                "{error:?}"
            );
            assert_eq!(
                took.as_secs(),
                Timeouts::default().of(verb).as_secs(),
                "{verb}"
            );
            assert_eq!(error.is_ambiguous(), verb == Verb::EndOfData);
            assert!(!reusable);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_content_slowly_for_ever_is_left() {
    let large = b"0123456789abcde\r\n".repeat(40_000);
    for (framing, offered) in [
        (Framing::Data, "PIPELINING"),
        (Framing::Chunking, "CHUNKING"),
    ] {
        let options = Options {
            framing,
            ..options()
        };
        let limits = options.timeouts;
        let (ours, theirs) = duplex(1024);
        let client = async {
            let mut session = Session::open(ours, &mx(), &options).await.unwrap();
            let begun = Instant::now();
            let chunks = [&large[..]];
            let content = Content::new(&chunks).unwrap();
            let envelope = envelope_to("bob@b.example");
            let transaction = Transaction {
                envelope: &envelope,
                content: &content,
            };
            let error = session.send(&transaction, None, &held).await.unwrap_err();
            (error, begun.elapsed())
        };
        // Every block leaves within its own deadline, but there are too many of them.
        let pace = limits.block / 40;
        let peer = slow_reader(theirs, offered, pace);
        let (error, took) = tokio::select! {
            done = client => done,
            () = peer => unreachable!("it reads on and on"),
        };
        assert!(
            matches!(
                error,
                SessionError::Timeout {
                    verb: Verb::Content
                }
            ) && !error.is_ambiguous(),
            "{error:?}"
        );
        let expected = limits.content;
        assert!(took >= expected && took < expected + pace, "{took:?}");
    }
}

/// Accepts everything, and takes 1 KiB of the content each `pace`.
async fn slow_reader(mut stream: DuplexStream, offered: &str, pace: Duration) {
    let hello = format!("250-mx.example\r\n250 {offered}\r\n");
    let mut heard = String::new();
    stream.write_all(b"220 hi\r\n").await.unwrap();
    for (command, reply) in [
        ("EHLO", hello.as_str()),
        ("MAIL", "250 ok\r\n"),
        ("RCPT", "250 ok\r\n"),
        ("DATA", "354 go on\r\n"),
    ] {
        while !heard.contains(command) && !heard.contains("BDAT") {
            let mut some = [0; 64];
            let octets = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await;
            heard.push_str(&String::from_utf8_lossy(&some[..octets.unwrap()]));
        }
        if !heard.contains("BDAT") {
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    }
    let mut pace = tokio::time::interval(pace);
    loop {
        pace.tick().await;
        let mut some = [0; 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await;
    }
}

#[tokio::test]
async fn a_peer_that_closes_is_ambiguous_only_behind_the_final_dot() {
    for offered in [PIPELINING, &[]] {
        for verb in TRANSACTION {
            let server = Server::offering(offered).does(verb, Step::Close);
            let (shown, _) = outcome_of(server).await;
            let doubt = if verb == Verb::EndOfData {
                "ambiguous: "
            } else {
                ""
            };
            assert_eq!(
                shown,
                format!("{doubt}connection closed by the peer at {verb}")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dripping_peer_does_not_extend_its_deadline() {
    let (ours, mut theirs) = duplex(1 << 16);
    let drip = async move {
        let mut minutes = tokio::time::interval(Duration::from_secs(60));
        for octet in b"220-".iter().cycle() {
            minutes.tick().await;
            if theirs.write_all(&[*octet]).await.is_err() {
                break;
            }
        }
    };
    let begun = Instant::now();
    let opening = async { Session::open(ours, &mx(), &options()).await.map(drop) };
    let (result, ()) = tokio::join!(opening, drip);
    let error = result.unwrap_err();
    assert!(
        matches!(
            error,
            SessionError::Timeout {
                verb: Verb::Greeting
            }
        ),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(400));
}

/// Sends a large message to a peer that does `step` once it has said 354, and then nothing more.
async fn large_message(step: Step) -> (Result<Outcome, SessionError>, Duration) {
    let server = Server::offering(PIPELINING)
        .does(Verb::Content, step)
        .does(Verb::Content, Step::Hang)
        .with_buffer(4096);
    let (ours, theirs) = duplex(server.buffer);
    let client = async move {
        let mut session = Session::open(ours, &mx(), &options()).await.unwrap();
        let body = b"0123456789abcde\r\n".repeat(20_000);
        let chunks = [&body[..]];
        let content = Content::new(&chunks).unwrap();
        let envelope = envelope_to("bob@b.example");
        let transaction = Transaction {
            envelope: &envelope,
            content: &content,
        };
        let begun = Instant::now();
        let result = session.send(&transaction, None, &held).await;
        assert!(!session.is_reusable());
        (result, begun.elapsed())
    };
    let serve = async {
        server.run(theirs).await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        done = client => done,
        () = serve => unreachable!("it never returns"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_costs_the_time_of_one_block() {
    let (result, took) = large_message(Step::Hang).await;
    assert_eq!(show(&result), "timed out at content");
    assert_eq!(took.as_secs(), 180);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_middle_of_the_content_is_heard_at_once() {
    let (result, took) = large_message(Step::Say(b"552 5.3.4 too big\r\n".to_vec())).await;
    assert_eq!(show(&result), "refused at content: 552 5.3.4 too big");
    assert!(took < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_peer_that_closes_in_the_middle_are_heard() {
    let (result, _) = large_message(Step::SayAndClose(b"421 4.3.2 going down\r\n".to_vec())).await;
    assert_eq!(show(&result), "refused at content: 421 4.3.2 going down");
    let (result, _) = large_message(Step::Close).await;
    assert_eq!(show(&result), "connection closed by the peer at content");
}

#[tokio::test(start_paused = true)]
async fn quitting_takes_two_seconds_at_most() {
    let server = Server::offering(&[]).does(Verb::Quit, Step::Hang);
    let (ours, theirs) = duplex(server.buffer);
    let client = async move {
        let session = Session::open(ours, &mx(), &options()).await.unwrap();
        let begun = Instant::now();
        session.quit().await;
        begun.elapsed()
    };
    let took = tokio::select! {
        took = client => took,
        _ = server.run(theirs) => unreachable!("it hangs"),
    };
    assert_eq!(took.as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_was_dropped_half_way_leaves_a_session_that_is_over() {
    let server = Server::offering(PIPELINING).does(Verb::EndOfData, Step::Hang);
    let (ours, theirs) = duplex(server.buffer);
    let client = async move {
        let mut session = Session::open(ours, &mx(), &options()).await.unwrap();
        let envelope = envelope_to("bob@b.example");
        let patience = Duration::from_secs(1);
        let cut = tokio::time::timeout(patience, send(&mut session, &envelope, None)).await;
        assert!(cut.is_err() && !session.is_reusable());
        show(&send(&mut session, &envelope, None).await)
    };
    let shown = tokio::select! {
        shown = client => shown,
        _ = server.run(theirs) => unreachable!("it hangs"),
    };
    assert_eq!(shown, "the session cannot take this transaction");
}

/// Sends a large message over a real socket to a peer that refuses it in the middle and closes with octets unread,
/// which resets the connection.
async fn refused_and_reset() -> Result<Outcome, SessionError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    let last_words = Step::SayAndClose(b"552 5.3.4 too big\r\n".to_vec());
    let server = Server::offering(PIPELINING).does(Verb::Content, last_words);
    let client = async move {
        let mut session = Session::open(stream, &mx(), &options()).await.unwrap();
        let body = b"0123456789abcde\r\n".repeat(500_000);
        let chunks = [&body[..]];
        let content = Content::new(&chunks).unwrap();
        let envelope = envelope_to("bob@b.example");
        let transaction = Transaction {
            envelope: &envelope,
            content: &content,
        };
        session.send(&transaction, None, &held).await
    };
    tokio::join!(client, server.run(theirs)).0
}

#[tokio::test]
async fn a_refusal_is_heard_even_if_the_connection_is_reset_behind_it() {
    for _ in 0..3 {
        assert_eq!(
            show(&refused_and_reset().await),
            "refused at content: 552 5.3.4 too big"
        );
    }
}
