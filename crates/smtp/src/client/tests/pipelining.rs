//! The next envelope behind this message's final dot: every pair of fates, and every way out.

use super::peer::Step;
use super::*;

/// What becomes of one message, as a step of the server and as the client should show it.
const FATES: [(Option<(Verb, &str)>, &str); 8] = [
    (None, "delivered 250 2.0.0 queued"),
    (
        Some((Verb::Mail, "450 4.1.8 a")),
        "refused at MAIL: 450 4.1.8 a",
    ),
    (
        Some((Verb::Rcpt, "550 5.1.1 b")),
        "refused at RCPT: 550 5.1.1 b",
    ),
    (
        Some((Verb::Rcpt, "452 4.2.2 c")),
        "refused at RCPT: 452 4.2.2 c",
    ),
    (
        Some((Verb::Data, "554 5.5.1 d")),
        "refused at DATA: 554 5.5.1 d",
    ),
    (
        Some((Verb::EndOfData, "550 5.7.1 e")),
        "refused at end of data: 550 5.7.1 e",
    ),
    (
        Some((Verb::EndOfData, "451 4.7.1 f")),
        "refused at end of data: 451 4.7.1 f",
    ),
    (
        Some((Verb::EndOfData, "250-g\r\n250 h")),
        "delivered 250 g h",
    ),
];

/// The reply that `server` gives without a script, so that a queue of steps stays aligned with the messages.
fn usual(verb: Verb) -> &'static str {
    match verb {
        Verb::Mail => "250 2.1.0 ok",
        Verb::Rcpt => "250 2.1.5 ok",
        Verb::Data => "354 go on",
        _ => "250 2.0.0 queued",
    }
}

/// The script that lets messages meet `fates`, as the server's own state allows.
fn server_with(fates: &[Option<(Verb, &str)>]) -> Server {
    let order = [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::EndOfData];
    let mut server = Server::offering(PIPELINING);
    for fate in fates {
        for verb in order {
            match fate {
                Some((at, said)) if *at == verb => {
                    server = server.on(verb, said);
                    break;
                }
                _ => server = server.on(verb, usual(verb)),
            }
        }
        // The commands behind a refusal are answered too.
        if let Some((at, _)) = fate {
            let behind = order.iter().skip_while(|verb| *verb != at).skip(1);
            for verb in behind.filter(|verb| **verb != Verb::EndOfData) {
                server = server.on(*verb, "503 5.5.1 bad sequence");
            }
        }
    }
    server
}

#[tokio::test]
async fn three_messages_in_a_row_meet_their_own_fates() {
    let recipients = ["a@b.example", "b@b.example", "c@b.example"];
    let envelopes = recipients.map(envelope_to);
    for first in FATES {
        for second in FATES {
            for third in FATES {
                let fates = [first, second, third];
                let server = server_with(&fates.map(|(fate, _)| fate));
                let envelopes = &envelopes;
                let (shown, _) = with(server, async move |mut session| {
                    let mut shown = Vec::new();
                    for (at, envelope) in envelopes.iter().enumerate() {
                        let result = send(&mut session, envelope, envelopes.get(at + 1)).await;
                        shown.push(show(&result));
                    }
                    session.quit().await;
                    shown
                })
                .await;
                assert_eq!(shown, fates.map(|(_, expected)| expected));
            }
        }
    }
}

#[tokio::test]
async fn the_next_envelope_stands_behind_the_final_dot() {
    let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    // The server withholds the reply to the dot; the envelope arrives all the same.
    let (ours, theirs) = duplex(1 << 16);
    let client = async {
        let mut session = Session::open(ours, &mx(), &options()).await.unwrap();
        let shown = show(&send(&mut session, &first, Some(&second)).await);
        assert!(session.is_ahead() && session.is_reusable() && !session.has_hung_up());
        shown
    };
    let peer = async {
        let mut io = tokio::io::BufReader::new(theirs);
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
        io.write_all(b"220 hi\r\n").await.unwrap();
        let mut all = String::new();
        for (end, reply) in [
            ("EHLO client.example\r\n", "250-mx\r\n250 PIPELINING\r\n"),
            ("DATA\r\n", "250 ok\r\n250 ok\r\n354 go\r\n"),
            ("DATA\r\n", "250 queued\r\n"),
        ] {
            loop {
                io.read_line(&mut all).await.unwrap();
                if all.ends_with(end) {
                    break;
                }
            }
            io.write_all(reply.as_bytes()).await.unwrap();
        }
        all
    };
    let (shown, all) = tokio::join!(client, peer);
    assert_eq!(shown, "delivered 250 queued");
    assert!(
        all.ends_with(
            "hello\r\n.\r\nMAIL FROM:<ann@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"
        ),
        "{all}"
    );
}

#[tokio::test]
async fn another_envelope_than_the_one_ahead_is_not_taken() {
    let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    let (shown, seen) = with(Server::offering(PIPELINING), async |mut session| {
        send(&mut session, &first, Some(&second)).await.unwrap();
        let result = send(&mut session, &envelope_to("c@b.example"), None).await;
        assert!(!session.is_reusable());
        show(&result)
    })
    .await;
    assert_eq!(shown, "the session cannot take this transaction");
    assert_eq!(seen.messages.len(), 1);
}

#[tokio::test]
async fn an_accepted_envelope_is_withdrawn_by_closing() {
    let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    let (reusable, seen) = with(Server::offering(PIPELINING), async |mut session| {
        send(&mut session, &first, Some(&second)).await.unwrap();
        session.withdraw().await;
        let reusable = session.is_reusable();
        session.quit().await;
        reusable
    })
    .await;
    assert!(!reusable);
    assert_eq!((seen.messages.len(), seen.torso.len()), (1, 0));
}

#[tokio::test]
async fn a_refused_envelope_is_withdrawn_and_the_session_goes_on() {
    let server = Server::offering(PIPELINING)
        .on(Verb::Rcpt, "250 ok")
        .on(Verb::Rcpt, "550 5.1.1 no");
    let envelopes = ["a@b.example", "b@b.example", "c@b.example"].map(envelope_to);
    let (shown, seen) = with(server, async |mut session| {
        send(&mut session, &envelopes[0], Some(&envelopes[1]))
            .await
            .unwrap();
        session.withdraw().await;
        assert!(session.is_reusable() && !session.is_ahead());
        show(&send(&mut session, &envelopes[2], None).await)
    })
    .await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(seen.messages.len(), 2);
}

#[tokio::test]
async fn a_peer_that_dies_on_the_first_says_nothing_about_the_second() {
    let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    let fates = [
        (
            Step::Close,
            "ambiguous: connection closed by the peer at end of data",
        ),
        (
            Step::SayAndClose(b"250 queued\r\n".to_vec()),
            "delivered 250 queued",
        ),
        (
            Step::Say(b"421 4.3.2 going down\r\n".to_vec()),
            "refused at end of data: 421 4.3.2 going down",
        ),
    ];
    for (step, expected) in fates {
        let server = Server::offering(PIPELINING).does(Verb::EndOfData, step);
        let (error, seen) = with(server, async |mut session| {
            let result = send(&mut session, &first, Some(&second)).await;
            assert_eq!(show(&result), expected);
            send(&mut session, &second, None).await.unwrap_err()
        })
        .await;
        assert!(!error.is_ambiguous(), "{error:?}");
        assert_eq!(seen.messages.len(), 1);
    }
}

#[tokio::test]
async fn without_pipelining_nothing_is_sent_ahead() {
    let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    let (shown, seen) = with(Server::offering(&[]), async |mut session| {
        send(&mut session, &first, Some(&second)).await.unwrap();
        assert!(!session.is_ahead());
        show(&send(&mut session, &second, None).await)
    })
    .await;
    assert_eq!(shown, "delivered 250 2.0.0 queued");
    assert_eq!(seen.messages.len(), 2);
}

/// RFC 9422: the first recipient of a domain takes a place, further ones of the same do not.
#[tokio::test]
async fn recipients_of_no_more_domains_are_named_than_the_peer_allows() {
    for offered in [
        &["PIPELINING", "LIMITS RCPTDOMAINMAX=2"][..],
        &["LIMITS RCPTMAX=1 RCPTDOMAINMAX=2"],
    ] {
        let recipients = ["a@b.example", "a@c.example", "z@b.example", "a@d.example"];
        let envelopes = recipients.map(envelope_to);
        let (error, seen) = with(Server::offering(offered), async |mut session| {
            for at in 0..3 {
                assert!(session.is_reusable());
                let next = envelopes.get(at + 1);
                send(&mut session, &envelopes[at], next).await.unwrap();
            }
            assert!(session.is_reusable() && !session.is_ahead());
            let error = send(&mut session, &envelopes[3], None).await.unwrap_err();
            assert!(!session.is_reusable());
            session.quit().await;
            error
        })
        .await;
        assert!(matches!(error, SessionError::Unusable));
        assert_eq!(seen.messages.len(), 3);
        assert!(!seen.commands.iter().any(|line| line.contains("d.example")));
        assert_eq!(seen.commands.last().unwrap(), "QUIT");
    }
}

#[tokio::test]
async fn no_more_transactions_are_begun_than_the_peer_allows() {
    let server = Server::offering(&["PIPELINING", "LIMITS MAILMAX=2"]);
    let envelope = envelope_to("a@b.example");
    let (error, seen) = with(server, async |mut session| {
        for _ in 0..2 {
            assert!(session.is_reusable());
            send(&mut session, &envelope, Some(&envelope))
                .await
                .unwrap();
        }
        assert!(!session.is_reusable() && !session.is_ahead());
        send(&mut session, &envelope, None).await.unwrap_err()
    })
    .await;
    assert!(matches!(error, SessionError::Unusable));
    assert_eq!(seen.messages.len(), 2);
}
