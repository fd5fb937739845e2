//! What the replies to one group add up to. Pure: replies in, conclusion out.

use model::Reply;

use super::{Party, Refusal, SessionError, Verb, Violation};

/// The replies to one group that have been read so far.
#[derive(Debug, Default)]
pub(super) struct Answers {
    refusal: Option<Refusal>,
    mail: bool,
    rcpt: bool,
    data: bool,
    closing: bool,
}

/// In which state the refused transaction has left the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aftermath {
    /// No transaction is open.
    Clean,
    /// One is open: RSET comes first.
    Spoiled,
    /// The peer waits for a message although it has refused the recipient: a lone dot ends it (RFC 2920 section 3.1).
    WantsDot,
    /// The peer closes, or waits for a message that it might deliver.
    Over,
}

impl Answers {
    /// Takes the reply to `verb`, the next command of the group.
    pub(super) fn take(&mut self, verb: Verb, reply: Reply) -> Result<(), SessionError> {
        let class = reply.code() / 100;
        match (verb, class) {
            (Verb::Rset, 2) => {}
            // Nothing was said about the message behind it.
            (Verb::Rset, 4 | 5) => {
                return Err(SessionError::Stale { reply: Some(reply) });
            }
            (Verb::Mail, 2) => self.mail = true,
            (Verb::Rcpt, 2) => self.rcpt = true,
            (Verb::Data, 3) => self.data = true,
            (Verb::Mail | Verb::Rcpt | Verb::Data, 4 | 5) => self.refuse(verb, reply),
            _ => {
                let violation = Violation::Unexpected(reply);
                return Err(SessionError::Protocol { verb, violation });
            }
        }
        Ok(())
    }

    /// Whether a command was refused, so that nothing after it can make a difference.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// No further reply can be read: the session ends with what there is.
    pub(super) fn cut_off(&mut self) {
        self.closing = true;
    }

    /// Whether the peer has announced that it closes (421): no further reply will come.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// The first refusal, if there was one, and what it leaves behind.
    pub(super) fn conclude(self) -> Option<(Refusal, Aftermath)> {
        let aftermath = match (self.closing, self.data, self.rcpt) {
            (true, _, _) | (false, true, true) => Aftermath::Over,
            (false, true, false) => Aftermath::WantsDot,
            (false, false, _) if self.mail || self.rcpt => Aftermath::Spoiled,
            (false, false, _) => Aftermath::Clean,
        };
        Some((self.refusal?, aftermath))
    }

    fn refuse(&mut self, verb: Verb, reply: Reply) {
        self.closing |= reply.code() == 421;
        let by = Party::Peer;
        self.refusal.get_or_insert(Refusal { verb, reply, by });
    }
}
