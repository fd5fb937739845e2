//! Every kind of reply at every command, with and without PIPELINING.

use super::peer::Step;
use super::*;

const CODES: &[u16] = &[
    200, 211, 220, 221, 235, 250, 251, 252, 299, 334, 354, 399, 421, 450, 451, 452, 454, 455, 499,
    500, 501, 502, 503, 504, 521, 530, 550, 551, 552, 553, 554, 555, 556, 571, 599,
];

/// What RFC 5321 section 4.2.1 makes of `code` as the answer to `verb`.
fn expected(verb: Verb, code: u16) -> String {
    let wanted = match verb {
        Verb::Data => 3,
        _ => 2,
    };
    match code / 100 {
        class if class == wanted && verb == Verb::EndOfData => format!("delivered {code} said"),
        class if class == wanted => "delivered 250 2.0.0 queued".into(),
        4 | 5 => format!("refused at {verb}: {code} said"),
        _ => {
            let doubt = if verb == Verb::EndOfData {
                "ambiguous: "
            } else {
                ""
            };
            format!(
                "{doubt}protocol violation at {verb}: the reply {code} said does not answer the command"
            )
        }
    }
}

#[tokio::test]
async fn each_code_is_taken_by_its_first_digit_at_each_command() {
    for offered in [PIPELINING, &[]] {
        for verb in [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::EndOfData] {
            for code in CODES {
                let server = Server::offering(offered).on(verb, &format!("{code} said"));
                let (shown, _) = outcome_of(server).await;
                assert_eq!(shown, expected(verb, *code), "{offered:?} {verb} {code}");
            }
        }
    }
}

#[tokio::test]
async fn a_session_goes_on_after_a_refusal_at_each_command() {
    for offered in [PIPELINING, &[]] {
        for verb in [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::EndOfData] {
            let server = Server::offering(offered).on(verb, "550 5.1.1 no");
            let (second, seen) = with(server, async |mut session| {
                let first = send(&mut session, &envelope_to("bob@b.example"), None).await;
                assert_eq!(show(&first), format!("refused at {verb}: 550 5.1.1 no"));
                assert!(session.is_reusable());
                show(&send(&mut session, &envelope_to("carl@b.example"), None).await)
            })
            .await;
            assert_eq!(second, "delivered 250 2.0.0 queued", "{offered:?} {verb}");
            let resets = seen.commands.iter().filter(|line| *line == "RSET").count();
            let needed = usize::from(matches!(verb, Verb::Rcpt | Verb::Data));
            assert_eq!(resets, needed, "{offered:?} {verb}");
        }
    }
}

#[tokio::test]
async fn after_421_nothing_more_is_sent() {
    for offered in [PIPELINING, &[]] {
        for verb in [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::EndOfData] {
            let server = Server::offering(offered).on(verb, "421 4.3.2 going down");
            let (reusable, seen) = with(server, async |mut session| {
                let result = send(&mut session, &envelope_to("bob@b.example"), None).await;
                assert_eq!(
                    show(&result),
                    format!("refused at {verb}: 421 4.3.2 going down")
                );
                let reusable = session.is_reusable();
                session.quit().await;
                reusable
            })
            .await;
            assert!(!reusable, "{offered:?} {verb}");
            assert!(!seen.commands.contains(&"QUIT".to_string()));
        }
    }
}

#[tokio::test]
async fn a_refusal_stands_although_the_peer_closes_behind_it() {
    for reply in ["550 5.1.1 no", "450 4.2.0 later"] {
        for verb in [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::EndOfData] {
            let step = Step::SayAndClose(format!("{reply}\r\n").into_bytes());
            let server = Server::offering(PIPELINING).does(verb, step);
            let (shown, _) = outcome_of(server).await;
            assert_eq!(shown, format!("refused at {verb}: {reply}"));
        }
    }
}

#[tokio::test]
async fn a_message_that_lost_its_recipient_is_ended_with_a_lone_dot() {
    let server = Server::offering(PIPELINING)
        .on(Verb::Rcpt, "550 5.1.1 no")
        .on(Verb::Data, "354 go on");
    let (second, seen) = with(server, async |mut session| {
        let first = send(&mut session, &envelope_to("bob@b.example"), None).await;
        assert_eq!(show(&first), "refused at RCPT: 550 5.1.1 no");
        show(&send(&mut session, &envelope_to("carl@b.example"), None).await)
    })
    .await;
    assert_eq!(second, "delivered 250 2.0.0 queued");
    assert_eq!(seen.messages, [b"".to_vec(), MESSAGE.concat()]);
    assert!(!seen.commands.contains(&"RSET".to_string()));
}

#[tokio::test]
async fn an_empty_message_is_never_sent_to_a_recipient_that_was_accepted() {
    let server = Server::offering(PIPELINING)
        .on(Verb::Mail, "450 4.3.0 odd")
        .on(Verb::Rcpt, "250 ok")
        .on(Verb::Data, "354 go on");
    let (reusable, seen) = with(server, async |mut session| {
        let result = send(&mut session, &envelope_to("bob@b.example"), None).await;
        assert_eq!(show(&result), "refused at MAIL: 450 4.3.0 odd");
        session.is_reusable()
    })
    .await;
    assert!(!reusable && seen.messages.is_empty());
}

#[tokio::test]
async fn hostile_replies_end_in_a_named_violation() {
    let violations: [(&[u8], &str); 8] = [
        (b"ok\r\n", "a line without a reply code"),
        (b"600 strange\r\n", "a line without a reply code"),
        (b"\0\0\0\r\n", "a line without a reply code"),
        (b"250-a\r\n550 b\r\n", "one reply with codes 250 and 550"),
        (b"250 \xff\xfe\r\nnoise\r\n", "an unsolicited reply"),
        (&[b'2'; 100_000], "an overlong reply"),
        (&[b'\n'; 1000], "a line without a reply code"),
        (
            b"354 what\r\n",
            "the reply 354 what does not answer the command",
        ),
    ];
    for (octets, violation) in violations {
        let server = Server::offering(&[]).does(Verb::Mail, Step::Say(octets.to_vec()));
        let (shown, _) = outcome_of(server).await;
        let verb = if violation.contains("unsolicited") {
            Verb::Rcpt
        } else {
            Verb::Mail
        };
        assert_eq!(shown, format!("protocol violation at {verb}: {violation}"));
    }
    let many = Step::Say(b"250-more\r\n".repeat(100_000));
    let (shown, _) = outcome_of(Server::offering(&[]).does(Verb::Mail, many)).await;
    assert_eq!(shown, "protocol violation at MAIL: an overlong reply");
}

#[tokio::test]
async fn a_reply_before_its_command_is_never_an_answer() {
    // The extra 250 would otherwise be taken for the answer to RCPT, and each later one for the next.
    let server = Server::offering(&[]).on(Verb::Mail, "250 ok\r\n250 and one more");
    let (shown, seen) = outcome_of(server).await;
    assert_eq!(shown, "protocol violation at RCPT: an unsolicited reply");
    assert_eq!(seen.dialogue().len(), 1);
}

/// Behind it every reply stands one command too late, until one fits none: nothing was said about the second message.
#[tokio::test]
async fn a_reply_too_many_behind_a_message_refuses_not_the_next_one() {
    let server = Server::offering(PIPELINING).on(Verb::EndOfData, "250 ok\r\n550 5.1.1 stray");
    let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    let (shown, seen) = with(server, async |mut session| {
        let sent = send(&mut session, &first, Some(&second)).await;
        let then = send(&mut session, &second, None).await;
        assert!(!session.is_reusable());
        [show(&sent), show(&then)]
    })
    .await;
    assert_eq!(
        shown,
        [
            "delivered 250 ok",
            "protocol violation at DATA: the reply 250 2.1.5 ok does not answer the command"
        ]
    );
    assert_eq!(seen.messages.len(), 1);
}

#[tokio::test]
async fn a_250_that_comes_before_the_final_dot_does_not_deliver() {
    for offered in [PIPELINING, &[]] {
        let server = Server::offering(offered).on(Verb::Data, "354 go on\r\n250 2.0.0 queued");
        let (shown, seen) = outcome_of(server).await;
        assert_eq!(
            shown,
            "protocol violation at content: the reply 250 2.0.0 queued does not answer the command"
        );
        assert!(seen.messages.is_empty());
    }
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_final_dot_is_one() {
    let server = Server::offering(PIPELINING).on(Verb::Data, "354 go on\r\n552 5.3.4 too big");
    let (shown, seen) = outcome_of(server).await;
    assert_eq!(shown, "refused at content: 552 5.3.4 too big");
    assert!(seen.messages.is_empty());
}

#[tokio::test]
async fn an_idle_session_that_the_peer_has_ended_is_stale() {
    let bye = Step::SayAndClose(b"250 queued\r\n421 4.4.2 idle for too long\r\n".to_vec());
    for (step, said) in [
        (bye, true),
        (Step::SayAndClose(b"250 queued\r\n".to_vec()), false),
    ] {
        let server = Server::offering(PIPELINING).does(Verb::EndOfData, step);
        let (error, _) = with(server, async |mut session| {
            send(&mut session, &envelope_to("bob@b.example"), None)
                .await
                .unwrap();
            while !session.has_hung_up() {
                tokio::task::yield_now().await;
            }
            send(&mut session, &envelope_to("bob@b.example"), None)
                .await
                .unwrap_err()
        })
        .await;
        assert!(!error.is_ambiguous());
        assert!(
            matches!(&error, SessionError::Stale { reply } if reply.is_some() == said),
            "{error:?}"
        );
    }
}

/// RFC 5321 section 3.8: a server that goes down says so when it likes. Nothing more is asked of it.
#[tokio::test]
async fn a_421_that_nobody_asked_for_answers_the_next_command() {
    for (at, next) in [(Verb::Mail, "RCPT"), (Verb::Rcpt, "DATA")] {
        let server = Server::offering(&[]).on(at, "250 ok\r\n421 4.3.2 going down");
        let (shown, seen) = outcome_of(server).await;
        assert_eq!(shown, format!("refused at {next}: 421 4.3.2 going down"));
        assert!(!seen.commands.iter().any(|line| line.starts_with(next)));
    }
    let server = Server::offering(&[]).on(Verb::Mail, "250 ok\r\n450 4.3.2 later");
    let (shown, _) = outcome_of(server).await;
    assert_eq!(shown, "protocol violation at RCPT: an unsolicited reply");
}
