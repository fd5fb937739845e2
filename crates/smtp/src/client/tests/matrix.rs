//! Every command, forty replies, with the peer going on, closing or hanging behind them, with and without the next
//! envelope ahead: the outcome belongs to its message and to no other, and a connection is used again only where both
//! sides agree on where they are.

use super::peer::Step;
use super::*;

const VERBS: [Verb; 4] = [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::EndOfData];

/// Forty replies, of which the odd ones are no replies.
pub(super) fn replies() -> Vec<String> {
    let lines = include_str!("replies.txt").lines();
    lines.map(|line| line.replace("\\r\\n", "\r\n")).collect()
}

/// What the peer does behind the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    Closes,
    Hangs,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    Refused(u16),
    /// Not delivered, for sure.
    Failed,
    /// Perhaps delivered.
    Doubtful,
}

fn fate(result: &Result<Outcome, SessionError>) -> Fate {
    match result {
        Ok(Outcome::Delivered(_)) => Fate::Delivered,
        Ok(Outcome::Refused(refusal)) => Fate::Refused(refusal.reply.code()),
        Err(error) if error.is_ambiguous() => Fate::Doubtful,
        Err(_) => Fate::Failed,
    }
}

/// What RFC 5321 section 4.2.1 makes of `reply` to `verb`, as far as that alone decides; none where the message goes on.
fn decided(verb: Verb, reply: &str) -> Option<Fate> {
    let positive = if verb == Verb::Data { '3' } else { '2' };
    let code: Option<u16> = reply.split([' ', '-']).next().unwrap().parse().ok();
    match code {
        Some(code @ 200..=599) => match reply.chars().next() {
            Some('4' | '5') => Some(Fate::Refused(code)),
            Some(first) if first == positive && verb == Verb::EndOfData => Some(Fate::Delivered),
            Some(first) if first == positive => None,
            _ if verb == Verb::EndOfData => Some(Fate::Doubtful),
            _ => Some(Fate::Failed),
        },
        _ if verb == Verb::EndOfData => Some(Fate::Doubtful),
        _ => Some(Fate::Failed),
    }
}

fn content_of(number: usize) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\nhello {number}\r\n").into_bytes()
}

/// Sends three messages as long as the session can be used; what became of each.
async fn send_three(mut session: Session, ahead: bool) -> (Vec<Fate>, bool) {
    let contents: Vec<Vec<u8>> = (0..3).map(content_of).collect();
    let envelopes: Vec<Envelope> = (0..3)
        .map(|number| envelope_to(&format!("r{number}@b.example")))
        .collect();
    let mut fates = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        let chunks = [&content[..]];
        let content = Content::new(&chunks).unwrap();
        let transaction = Transaction {
            envelope: &envelopes[number],
            content: &content,
        };
        let next = envelopes.get(number + 1).filter(|_| ahead);
        fates.push(fate(&session.send(&transaction, next, &held).await));
        if !session.is_reusable() {
            return (fates, false);
        }
    }
    session.quit().await;
    (fates, true)
}

/// No message is reported otherwise than the server saw it.
fn check_truth(fates: &[Fate], seen: &Seen, what: &str) {
    for (number, fate) in fates.iter().enumerate() {
        let times = seen
            .messages
            .iter()
            .filter(|message| **message == content_of(number))
            .count();
        match fate {
            Fate::Delivered => assert_eq!(times, 1, "{what}: {number} is delivered"),
            Fate::Failed => assert_eq!(times, 0, "{what}: {number} has failed"),
            Fate::Refused(_) | Fate::Doubtful => assert!(times <= 1, "{what}: {number}"),
        }
    }
    for number in fates.len()..3 {
        assert!(
            !seen.messages.contains(&content_of(number)),
            "{what}: {number} was not asked for"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_reply_at_each_command_decides_about_its_own_message() {
    for ahead in [true, false] {
        for verb in VERBS {
            for reply in &replies() {
                for then in [Then::GoesOn, Then::Closes, Then::Hangs] {
                    check(verb, reply, then, ahead).await;
                }
            }
        }
    }
}

async fn check(verb: Verb, reply: &str, then: Then, ahead: bool) {
    let what = format!("{reply:?} to {verb}, {then:?}, ahead {ahead}");
    let octets = format!("{reply}\r\n").into_bytes();
    let step = match then {
        Then::GoesOn => Step::Say(octets),
        Then::Closes => Step::SayAndClose(octets),
        Then::Hangs => Step::SayAndHang(octets),
    };
    let server = Server::offering(PIPELINING).does(verb, step);
    let ((fates, reusable), seen) =
        with(server, async |session| send_three(session, ahead).await).await;
    check_truth(&fates, &seen, &what);
    match (decided(verb, reply), then) {
        (Some(fate), _) => assert_eq!(fates[0], fate, "{what}"),
        (None, Then::GoesOn) => assert_eq!(fates[0], Fate::Delivered, "{what}"),
        // It has the message, and says nothing of it.
        (None, Then::Hangs) if verb == Verb::Data => {
            assert_eq!(fates[0], Fate::Doubtful, "{what}");
        }
        (None, Then::Closes | Then::Hangs) => assert_eq!(fates[0], Fate::Failed, "{what}"),
    }
    if then != Then::GoesOn {
        assert!(!reusable, "{what}");
        for fate in &fates[1..] {
            assert_eq!(*fate, Fate::Failed, "{what}");
        }
        return;
    }
    let is_agreed =
        matches!(fates[0], Fate::Delivered | Fate::Refused(_)) && !reply.starts_with("421");
    if is_agreed && reusable {
        assert_eq!(fates[1..], [Fate::Delivered; 2], "{what}");
    }
    if !is_agreed {
        assert!(!reusable && fates.len() == 1, "{what}: {fates:?}");
    }
}

/// A session that is given up although both sides agree costs a connection, not a message: these are all of them.
#[tokio::test]
async fn a_refusal_costs_the_connection_only_where_an_empty_message_would_be_delivered() {
    for ahead in [true, false] {
        for verb in VERBS {
            let server = Server::offering(PIPELINING).on(verb, "550 5.1.1 no");
            let ((fates, reusable), _) =
                with(server, async |session| send_three(session, ahead).await).await;
            assert!(reusable, "{verb} ahead {ahead}");
            assert_eq!(
                fates,
                [Fate::Refused(550), Fate::Delivered, Fate::Delivered],
                "{verb} ahead {ahead}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_at_a_command_leaves_doubt_only_behind_the_final_dot() {
    for ahead in [true, false] {
        for verb in VERBS {
            let server = Server::offering(PIPELINING).does(verb, Step::Hang);
            let (ours, theirs) = duplex(server.buffer);
            let client = async move {
                let session = Session::open(ours, &mx(), &options()).await.unwrap();
                send_three(session, ahead).await
            };
            let (fates, reusable) = tokio::select! {
                sent = client => sent,
                _ = server.run(theirs) => panic!("the peer hangs"),
            };
            let expected = if verb == Verb::EndOfData {
                Fate::Doubtful
            } else {
                Fate::Failed
            };
            assert_eq!(fates, [expected], "{verb} ahead {ahead}");
            assert!(!reusable, "{verb} ahead {ahead}");
        }
    }
}
