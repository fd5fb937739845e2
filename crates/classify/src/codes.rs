//! What the standard codes say: RFC 3463 and the IANA registry that RFC 5248 opened, then RFC 5321's own.
//!
//! Servers use many of these codes for anything at all, so each row says how far it can be believed.

use model::{BounceClass, EnhancedCode, Permanence, Reply};

use crate::Stage;

/// What a code says, and how far to believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The code has one meaning, and servers use it for that.
    Says(BounceClass),
    /// The code is used for many things; a text that is clearer wins.
    Hints(BounceClass),
}

impl Meaning {
    pub(crate) fn class(self) -> BounceClass {
        match self {
            Self::Says(class) | Self::Hints(class) => class,
        }
    }
}

/// Whether the first digit (RFC 5321 section 4.2.1) lets us try again.
///
/// A 5xx before MAIL FROM refuses the session, not the message: another host or another day may do. A 552 for a
/// recipient is a 452 by another name (RFC 5321 section 4.5.3.1.10).
pub(crate) fn permanence(stage: Stage, reply: &Reply) -> Permanence {
    let is_552_for_recipient = stage == Stage::RcptTo && reply.code() == 552;
    if reply.is_permanent() && stage.knows_the_message() && !is_552_for_recipient {
        return Permanence::Hard;
    }
    Permanence::Soft
}

/// What the codes of `reply` say together.
pub(crate) fn meaning(stage: Stage, reply: &Reply) -> Meaning {
    // An enhanced code of another class than the reply's own is not one (RFC 3463 section 2).
    let enhanced = reply
        .enhanced()
        .filter(|code| u16::from(code.0) == reply.code() / 100);
    let basic = basic(stage, reply.code());
    match (enhanced.map(detailed), basic) {
        (None, basic) => basic,
        (Some(Meaning::Hints(BounceClass::Undetermined)), basic) => basic,
        (Some(enhanced), _) => enhanced,
    }
}

/// RFC 3463 section 3, in its order, with what was registered since.
fn detailed(EnhancedCode(_, subject, detail): EnhancedCode) -> Meaning {
    match subject {
        1 => address(detail),
        2 => mailbox(detail),
        3 => mail_system(detail),
        4 => network(detail),
        5 => protocol(detail),
        6 => Meaning::Says(BounceClass::Content),
        7 => security(detail),
        _ => Meaning::Hints(BounceClass::Undetermined),
    }
}

fn address(detail: u16) -> Meaning {
    match detail {
        // 1 bad mailbox, 3 bad syntax, 4 ambiguous, 6 moved.
        1 | 3 | 4 | 6 => Meaning::Says(BounceClass::InvalidRecipient),
        // 2 bad system, 10 null MX (RFC 7505).
        2 | 10 => Meaning::Says(BounceClass::BadDomain),
        // 7 the sender's syntax, 8 the sender's system.
        7 | 8 => Meaning::Says(BounceClass::Policy),
        0 => Meaning::Hints(BounceClass::InvalidRecipient),
        _ => Meaning::Hints(BounceClass::Undetermined),
    }
}

fn mailbox(detail: u16) -> Meaning {
    match detail {
        1 => Meaning::Says(BounceClass::InactiveMailbox),
        2 => Meaning::Says(BounceClass::MailboxFull),
        3 => Meaning::Says(BounceClass::MessageTooLarge),
        4 => Meaning::Hints(BounceClass::RemoteSystem),
        _ => Meaning::Hints(BounceClass::Undetermined),
    }
}

fn mail_system(detail: u16) -> Meaning {
    match detail {
        // 1 the system is full.
        1 => Meaning::Says(BounceClass::RemoteSystem),
        4 => Meaning::Says(BounceClass::MessageTooLarge),
        // 3 not capable of what the message needs.
        3 => Meaning::Hints(BounceClass::Protocol),
        _ => Meaning::Hints(BounceClass::RemoteSystem),
    }
}

fn network(detail: u16) -> Meaning {
    match detail {
        // 1 no answer from host, 2 bad connection.
        1 | 2 => Meaning::Hints(BounceClass::Connect),
        3 => Meaning::Hints(BounceClass::Dns),
        // 5 congestion.
        5 => Meaning::Hints(BounceClass::RateLimited),
        _ => Meaning::Hints(BounceClass::RemoteSystem),
    }
}

fn protocol(detail: u16) -> Meaning {
    match detail {
        // 3 too many recipients.
        3 => Meaning::Hints(BounceClass::RateLimited),
        // 0 is what some providers say to everything.
        0 => Meaning::Hints(BounceClass::Undetermined),
        _ => Meaning::Hints(BounceClass::Protocol),
    }
}

fn security(detail: u16) -> Meaning {
    match detail {
        // 13 account disabled (RFC 5248), 17 and 18 the owner has changed (RFC 7293).
        13 => Meaning::Says(BounceClass::InactiveMailbox),
        17 => Meaning::Says(BounceClass::InvalidRecipient),
        18 => Meaning::Says(BounceClass::BadDomain),
        // 4 and 5 cryptography, 6 algorithms, 10 encryption needed (RFC 5248), 30 REQUIRETLS (RFC 8689).
        4 | 5 | 6 | 10 | 11 | 30 => Meaning::Hints(BounceClass::Tls),
        // 16 too large for its priority (RFC 6710).
        16 => Meaning::Says(BounceClass::MessageTooLarge),
        // 19 the owner cannot be checked (RFC 7293).
        19 => Meaning::Says(BounceClass::RemoteSystem),
        // DKIM, SPF (RFC 7372), ARC (RFC 8617).
        20..=24 | 26 | 29 => Meaning::Hints(BounceClass::AuthFailure),
        // 25 reverse DNS (RFC 7372).
        25 => Meaning::Hints(BounceClass::Reputation),
        // 28 mail flood (RFC 8601 registry).
        28 => Meaning::Hints(BounceClass::RateLimited),
        _ => Meaning::Hints(BounceClass::Policy),
    }
}

/// RFC 5321 section 4.2.3, RFC 7504 and the codes that servers made their own.
fn basic(stage: Stage, code: u16) -> Meaning {
    let class = match (code, stage) {
        (454, Stage::StartTls) | (523 | 534 | 538, _) => BounceClass::Tls,
        (530 | 535 | 454, _) => BounceClass::Policy,
        (421 | 450 | 451 | 452, _) => BounceClass::RemoteSystem,
        (455 | 555 | 500..=504, _) => BounceClass::Protocol,
        (511 | 551, _) | (553, Stage::RcptTo | Stage::Data) => BounceClass::InvalidRecipient,
        (512 | 521 | 556, _) => BounceClass::BadDomain,
        (525, _) => BounceClass::InactiveMailbox,
        (552, Stage::RcptTo) => BounceClass::MailboxFull,
        (552, _) if stage.knows_the_message() => BounceClass::MessageTooLarge,
        (554, Stage::Connect | Stage::Greeting) => BounceClass::Reputation,
        (571, _) => BounceClass::Policy,
        (400..=599, _) => BounceClass::Undetermined,
        _ => BounceClass::Protocol,
    };
    Meaning::Hints(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, enhanced: Option<EnhancedCode>) -> Reply {
        Reply::new(code, enhanced, "")
    }

    #[test]
    fn the_first_digit_decides_whether_to_try_again() {
        for code in 400..=599 {
            let expected = if code < 500 {
                Permanence::Soft
            } else {
                Permanence::Hard
            };
            for stage in [Stage::MailFrom, Stage::Data, Stage::EndOfData] {
                assert_eq!(permanence(stage, &reply(code, None)), expected, "{code}");
            }
        }
    }

    #[test]
    fn a_552_for_a_recipient_is_a_452() {
        assert_eq!(
            permanence(Stage::RcptTo, &reply(552, None)),
            Permanence::Soft
        );
        assert_eq!(
            permanence(Stage::EndOfData, &reply(552, None)),
            Permanence::Hard
        );
    }

    #[test]
    fn a_session_refused_for_good_is_no_message_refused_for_good() {
        for stage in [
            Stage::Connect,
            Stage::Greeting,
            Stage::Hello,
            Stage::StartTls,
        ] {
            assert_eq!(
                permanence(stage, &reply(554, None)),
                Permanence::Soft,
                "{stage:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_neither_4xx_nor_5xx_is_a_breach_of_protocol() {
        for code in [0, 199, 250, 354, 600] {
            let meaning = meaning(Stage::EndOfData, &reply(code, None));
            assert_eq!(meaning.class(), BounceClass::Protocol, "{code}");
            assert_eq!(
                permanence(Stage::EndOfData, &reply(code, None)),
                Permanence::Soft
            );
        }
    }

    #[test]
    fn an_enhanced_code_of_another_class_than_the_reply_is_not_believed() {
        let torn = reply(450, Some(EnhancedCode(5, 1, 1)));
        assert_eq!(
            meaning(Stage::RcptTo, &torn),
            Meaning::Hints(BounceClass::RemoteSystem)
        );
    }

    #[test]
    fn the_codes_that_only_ever_mean_one_thing_are_believed() {
        let known = [
            (EnhancedCode(5, 1, 1), BounceClass::InvalidRecipient),
            (EnhancedCode(5, 1, 2), BounceClass::BadDomain),
            (EnhancedCode(5, 1, 10), BounceClass::BadDomain),
            (EnhancedCode(5, 2, 1), BounceClass::InactiveMailbox),
            (EnhancedCode(5, 2, 2), BounceClass::MailboxFull),
            (EnhancedCode(5, 3, 4), BounceClass::MessageTooLarge),
            (EnhancedCode(5, 6, 7), BounceClass::Content),
        ];
        for (code, class) in known {
            let said = meaning(Stage::RcptTo, &reply(550, Some(code)));
            assert_eq!(said, Meaning::Says(class), "{code}");
        }
    }
}
