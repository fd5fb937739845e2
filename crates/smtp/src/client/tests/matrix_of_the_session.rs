//! The commands that belong to no message: forty replies to each, with the peer going on, closing or hanging behind
//! them. A session comes about or does not, and no message is ever taken for delivered or refused on their account.

use super::matrix::replies;
use super::peer::Step;
use super::*;

const OPENING: [Verb; 4] = [Verb::Greeting, Verb::Ehlo, Verb::Helo, Verb::StartTls];

/// What came of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Opened,
    Refused(u16),
    /// It ended in an error that quotes nothing, or something that is no answer.
    Failed,
}

/// The code of `reply`, if it is one.
fn code(reply: &str) -> Option<u16> {
    let code = reply.split([' ', '-']).next()?.parse().ok();
    code.filter(|code| (200..600).contains(code))
}

/// What RFC 5321 sections 3.1, 3.2 and 4.2.1 and RFC 3207 section 4 make of `reply` to `verb`, where the peer goes on.
fn decided(verb: Verb, reply: &str) -> Came {
    match (verb, code(reply)) {
        (_, None) => Came::Failed,
        (Verb::Greeting, Some(220)) => Came::Opened,
        (Verb::Ehlo | Verb::Helo, Some(250)) => Came::Opened,
        // HELO follows, and is answered.
        (Verb::Ehlo, Some(500..=599)) => Came::Opened,
        // The session goes on in the clear, where TLS is opportunistic.
        (Verb::StartTls, Some(400..=420 | 422..=599)) => Came::Opened,
        (_, Some(code @ 400..=599)) => Came::Refused(code),
        (_, Some(_)) => Came::Failed,
    }
}

fn came_of(result: &Result<Session, SessionError>) -> Came {
    match result {
        Ok(_) => Came::Opened,
        Err(SessionError::Refused { reply, .. }) => Came::Refused(reply.code()),
        Err(error) => {
            assert!(!error.is_ambiguous());
            Came::Failed
        }
    }
}

/// A server that gets to `verb`.
fn server_at(verb: Verb) -> Server {
    match verb {
        Verb::StartTls => Server::offering(&["STARTTLS"]),
        Verb::Helo => Server::offering(&[]).on(Verb::Ehlo, "502 5.5.1 what"),
        _ => Server::offering(&[]),
    }
}

/// Opens a session with `server`, and sends a message if that succeeds.
async fn opened(server: Server) -> (Came, Seen) {
    let options = Options {
        tls: TlsMode::Opportunistic,
        ..options()
    };
    let (ours, theirs) = duplex(server.buffer);
    let client = async move {
        let result = Session::open(ours, &mx(), &options).await;
        let came = came_of(&result);
        if let Ok(mut session) = result {
            let sent = send(&mut session, &envelope_to("bob@b.example"), None).await;
            // A peer that closes behind its answer takes nothing.
            assert!(sent.is_ok() || !session.is_reusable(), "{sent:?}");
            session.quit().await;
        }
        came
    };
    tokio::join!(client, server.run(theirs))
}

#[tokio::test(start_paused = true)]
async fn each_reply_before_the_first_message_opens_the_session_or_ends_it() {
    for verb in OPENING {
        // Behind 220 to STARTTLS comes the handshake, which is another test's matter.
        let is_handshake = |reply: &str| verb == Verb::StartTls && code(reply) == Some(220);
        for reply in replies().iter().filter(|reply| !is_handshake(reply)) {
            let what = format!("{reply:?} to {verb}");
            let octets = format!("{reply}\r\n").into_bytes();
            let (came, seen) = opened(server_at(verb).on(verb, reply)).await;
            let expected = decided(verb, reply);
            assert_eq!(came, expected, "{what}");
            let sent = usize::from(expected == Came::Opened);
            assert_eq!(seen.messages.len(), sent, "{what}");

            let step = Step::SayAndHang(octets.clone());
            let (came, seen) = opened(server_at(verb).does(verb, step)).await;
            assert!(seen.messages.is_empty(), "{what}, hanging");
            match (verb, code(reply)) {
                // The next command, which is not a message's, is not answered.
                (Verb::Greeting, Some(220))
                | (Verb::Ehlo, Some(500..=599))
                | (Verb::StartTls, Some(400..=420 | 422..=599)) => {
                    assert_eq!(came, Came::Failed, "{what}, hanging");
                }
                _ => assert_eq!(came, expected, "{what}, hanging"),
            }

            let (came, seen) = opened(server_at(verb).does(verb, Step::SayAndClose(octets))).await;
            assert!(seen.messages.is_empty(), "{what}, closing");
            match (verb, code(reply)) {
                // HELO finds nobody, and what was said to EHLO stands.
                (Verb::Ehlo, Some(code @ 500..=599)) => assert_eq!(came, Came::Refused(code)),
                // EHLO finds nobody.
                (Verb::Greeting, Some(220)) => assert_eq!(came, Came::Failed, "{what}, closing"),
                // The EHLO behind a refusal finds nobody, so that no message has to.
                (Verb::StartTls, Some(400..=420 | 422..=599)) => {
                    assert_eq!(came, Came::Failed, "{what}, closing");
                }
                // Elsewhere it is the first message that finds nobody.
                _ => assert_eq!(came, expected, "{what}, closing"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_or_closes_before_the_first_message_gets_none() {
    for verb in OPENING {
        let (came, seen) = opened(server_at(verb).does(verb, Step::Close)).await;
        let expected = match verb {
            Verb::Helo => Came::Refused(502), // What was said to EHLO stands.
            _ => Came::Failed,
        };
        assert_eq!((came, seen.messages.len()), (expected, 0), "{verb}");

        let server = server_at(verb).does(verb, Step::Hang);
        let (ours, theirs) = duplex(server.buffer);
        let options = Options {
            tls: TlsMode::Opportunistic,
            ..options()
        };
        let (mx, begun) = (mx(), tokio::time::Instant::now());
        let error = tokio::select! {
            result = Session::open(ours, &mx, &options) => result.unwrap_err(),
            _ = server.run(theirs) => unreachable!("it hangs"),
        };
        assert_eq!(error.to_string(), format!("timed out at {verb}"));
        assert_eq!(begun.elapsed().as_secs(), 300, "{verb}");
    }
}

/// Sends a message that is refused, so that RSET comes before the second; what came of that.
async fn behind_a_refusal(server: Server) -> (String, bool, Seen) {
    let server = server.on(Verb::Rcpt, "550 5.1.1 no");
    let (first, second) = (envelope_to("a@b.example"), envelope_to("b@b.example"));
    let ((shown, reusable), seen) = with(server, async |mut session| {
        let refused = show(&send(&mut session, &first, None).await);
        assert_eq!(refused, "refused at RCPT: 550 5.1.1 no");
        let shown = show(&send(&mut session, &second, None).await);
        (shown, session.is_reusable())
    })
    .await;
    (shown, reusable, seen)
}

/// Whatever becomes of RSET, the message behind it is delivered or was never tried: nobody has said anything about it.
#[tokio::test(start_paused = true)]
async fn each_reply_to_rset_lets_the_next_message_go_or_leaves_it_alone() {
    for offered in [PIPELINING, &[]] {
        for reply in &replies() {
            let octets = format!("{reply}\r\n").into_bytes();
            for step in [
                Step::Say(octets.clone()),
                Step::SayAndClose(octets.clone()),
                Step::SayAndHang(octets),
            ] {
                let closes = !matches!(step, Step::Say(_));
                let what = format!("{reply:?} to RSET, ending {closes}, offering {offered:?}");
                let server = Server::offering(offered).does(Verb::Rset, step);
                let (shown, reusable, seen) = behind_a_refusal(server).await;
                let granted = matches!(code(reply), Some(200..=299)) && !closes;
                assert_eq!(
                    shown == "delivered 250 2.0.0 queued",
                    granted,
                    "{what}: {shown}"
                );
                assert!(!shown.starts_with("refused"), "{what}: {shown}");
                assert!(!shown.starts_with("ambiguous"), "{what}: {shown}");
                assert_eq!(reusable, granted, "{what}");
                assert_eq!(seen.messages.len(), usize::from(granted), "{what}");
                if matches!(code(reply), Some(400..=599)) {
                    assert_eq!(shown, "the peer had ended the idle session", "{what}");
                }
            }
        }
    }
}

/// QUIT is a courtesy: what is answered changes nothing, and takes no longer than two seconds.
#[tokio::test(start_paused = true)]
async fn no_reply_to_quit_makes_a_difference() {
    for reply in &replies() {
        let octets = format!("{reply}\r\n").into_bytes();
        for step in [
            Step::Say(octets.clone()),
            Step::SayAndClose(octets),
            Step::Close,
        ] {
            let server = Server::offering(PIPELINING).does(Verb::Quit, step);
            let begun = tokio::time::Instant::now();
            let (shown, seen) = outcome_of(server).await;
            assert_eq!(shown, "delivered 250 2.0.0 queued", "{reply:?} to QUIT");
            assert_eq!(seen.messages.len(), 1);
            assert!(begun.elapsed().as_secs() <= 4, "{reply:?} to QUIT");
        }
    }
}
