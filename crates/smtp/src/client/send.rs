//! One transaction: the envelope's commands and what their replies mean.

use std::mem;

use super::answers::{Aftermath, Answers};
use super::group::Group;
use super::session::State;
use super::{
    Content, Envelope, Fence, Framing, Outcome, Refusal, Session, SessionError, Transaction, Verb,
    Violation,
};

/// What the peer says to an envelope.
pub(super) enum Opening {
    /// It waits for the content.
    Accepted,
    /// It does not want it. The session is already in the state that follows.
    Refused(Refusal),
}

impl Session {
    /// Sends one message to one recipient.
    ///
    /// With PIPELINING, the envelope `next` is sent right behind this message (RFC 2920 section 3.1); the call with
    /// that same envelope must follow then, or [`withdraw`](Self::withdraw). Where the peer does not allow it, `next`
    /// is ignored. `fence` is asked immediately before the message is completed.
    ///
    /// A refusal, by the peer or because the peer cannot take the message, is an [`Outcome`]. An error ends the
    /// session; unless it [is ambiguous](SessionError::is_ambiguous), the message was not delivered.
    pub async fn send(
        &mut self,
        transaction: &Transaction<'_>,
        next: Option<&Envelope>,
        fence: Fence<'_>,
    ) -> Result<Outcome, SessionError> {
        let envelope = transaction.envelope;
        if !self.must_reencode(envelope) || self.unsuitable(envelope).is_some() {
            return self.send_as_is(transaction, next, fence).await;
        }
        let reencoded = match Self::reencode(transaction) {
            Ok(reencoded) => reencoded,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let chunks = [&reencoded[..]];
        let Ok(content) = Content::new(&chunks) else {
            return Err(SessionError::Unusable);
        };
        let envelope = Envelope {
            content: content.facts(),
            ..envelope.clone()
        };
        let transaction = Transaction {
            envelope: &envelope,
            content: &content,
        };
        self.send_as_is(&transaction, next, fence).await
    }

    /// The same for content that the peer takes as it is.
    async fn send_as_is(
        &mut self,
        transaction: &Transaction<'_>,
        next: Option<&Envelope>,
        fence: Fence<'_>,
    ) -> Result<Outcome, SessionError> {
        let envelope = transaction.envelope;
        // Until this transaction has come to its end, the session is over: also if this future is dropped.
        let opening = match mem::replace(&mut self.state, State::Over) {
            State::Over => return Err(SessionError::Unusable),
            State::Ahead(opened) if *opened != *envelope => return Err(SessionError::Unusable),
            State::Ahead(_) => self.read_ahead().await?,
            state @ (State::Ready | State::Spoiled) => {
                if let Some(refusal) = self.unsuitable(envelope) {
                    self.state = state;
                    return Ok(Outcome::Refused(refusal));
                }
                if !self.has_room_for(envelope) {
                    (self.state, self.full) = (state, true);
                    return Err(SessionError::Unusable);
                }
                let group = self.begin(state, envelope).await?;
                if self.sends_chunks() {
                    return self.send_chunk(group, transaction.content, fence).await;
                }
                self.exchange(group.data()).await?
            }
        };
        match opening {
            Opening::Accepted => self.transfer(transaction.content, next, fence).await,
            Opening::Refused(refusal) => Ok(Outcome::Refused(refusal)),
        }
    }

    /// Whether content goes out as BDAT.
    pub(super) fn sends_chunks(&self) -> bool {
        self.framing == Framing::Chunking && self.extensions.chunking
    }

    /// The commands for `envelope` in a session that was idle until now.
    async fn begin(&mut self, state: State, envelope: &Envelope) -> Result<Group, SessionError> {
        if self.wire.has_heard() {
            let reply = self.wire.reply(Verb::Quit).await;
            let reply = reply.ok().map(|raw| raw.into_reply());
            return Err(SessionError::Stale { reply });
        }
        self.count(envelope);
        let group = match state {
            State::Spoiled => Group::default().rset(),
            State::Ready | State::Ahead(_) | State::Over => Group::default(),
        };
        Ok(group.mail(envelope, &self.extensions))
    }

    /// Sends a group, at once or command by command as the peer allows, and reads its replies.
    pub(super) async fn exchange(&mut self, group: Group) -> Result<Opening, SessionError> {
        if self.extensions.pipelining {
            return self.exchange_at_once(group).await;
        }
        let mut answers = Answers::default();
        for (verb, line) in group.commands() {
            let reply = self.wire.ask(verb, line).await?;
            answers.take(verb, reply.into_reply())?;
            if answers.is_refused() {
                break;
            }
        }
        Ok(self.conclude(answers).await)
    }

    async fn exchange_at_once(&mut self, group: Group) -> Result<Opening, SessionError> {
        let sent = self.wire.command(Verb::Mail, group.text()).await;
        let verbs = group.commands().map(|(verb, _)| verb);
        let opening = self.read_answers(verbs).await;
        opening.map_err(|unread| sent.err().unwrap_or(unread))
    }

    /// Reads the replies to a group, in order.
    pub(super) async fn read_answers(
        &mut self,
        verbs: impl Iterator<Item = Verb>,
    ) -> Result<Opening, SessionError> {
        let mut answers = Answers::default();
        for verb in verbs {
            match self.read_answer(verb, &mut answers).await {
                Ok(()) if answers.is_closing() => break,
                Ok(()) => {}
                // Replies that fit no command have slipped: none of them is known to be about this message.
                Err(
                    slipped @ SessionError::Protocol {
                        violation: Violation::Unexpected(_),
                        ..
                    },
                ) => return Err(slipped),
                // A refusal stands, whatever becomes of the session behind it.
                Err(_) if answers.is_refused() => {
                    answers.cut_off();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.conclude(answers).await)
    }

    async fn read_answer(&mut self, verb: Verb, answers: &mut Answers) -> Result<(), SessionError> {
        let reply = self.wire.reply(verb).await?;
        answers.take(verb, reply.into_reply())
    }

    /// What the replies add up to, and the state that follows from it.
    async fn conclude(&mut self, mut answers: Answers) -> Opening {
        if self.wire.is_broken() {
            answers.cut_off();
        }
        let Some((refusal, aftermath)) = answers.conclude() else {
            return Opening::Accepted;
        };
        self.state = match aftermath {
            Aftermath::Clean => State::Ready,
            Aftermath::Spoiled => State::Spoiled,
            Aftermath::WantsDot => self.send_lone_dot().await,
            Aftermath::Over => State::Over,
        };
        Opening::Refused(refusal)
    }

    /// Ends the message that no recipient is left for; whatever the peer says to it, the transaction is over.
    async fn send_lone_dot(&mut self) -> State {
        match self.wire.ask(Verb::Data, ".\r\n").await {
            Ok(reply) if reply.code() != 421 => State::Ready,
            Ok(_) | Err(_) => State::Over,
        }
    }

    /// Reads the replies to the envelope that was sent ahead.
    async fn read_ahead(&mut self) -> Result<Opening, SessionError> {
        self.read_answers([Verb::Mail, Verb::Rcpt, Verb::Data].into_iter())
            .await
    }

    /// Backs out of the envelope that was sent ahead.
    pub(super) async fn decline(&mut self) {
        let _ = self.read_ahead().await;
    }
}
