//! BDAT LAST in one group with its envelope (RFC 3030): one round trip for one message.
//!
//! The peer has the message when it has the last octet, so that octet takes the place of the final dot: the fence is
//! asked before the block that holds it, and every error behind it is ambiguous, even one at the reply to MAIL.

use super::group::Group;
use super::send::Opening;
use super::session::State;
use super::transfer::new_block;
use super::wire::{Halt, Progress};
use super::{Content, Fence, Outcome, Session, SessionError, Verb};

impl Session {
    /// Sends `group` (MAIL and RCPT) and the content in one chunk.
    pub(super) async fn send_chunk(
        &mut self,
        group: Group,
        content: &Content<'_>,
        fence: Fence<'_>,
    ) -> Result<Outcome, SessionError> {
        let mut block = new_block(content);
        self.wire.begin_content();
        let mut verbs = Vec::new();
        if self.extensions.pipelining {
            block.extend_from_slice(group.text().as_bytes());
            verbs.extend(group.commands().map(|(verb, _)| verb));
        } else if let Opening::Refused(refusal) = self.exchange(group).await? {
            return Ok(Outcome::Refused(refusal));
        }
        block.extend_from_slice(format!("BDAT {} LAST\r\n", content.facts().size).as_bytes());
        for chunk in content.chunks() {
            // Replies to the envelope may arrive while the content is written: the gate is open.
            if let Err(halt) = self.fill(&mut block, chunk, |_| Ok(())).await {
                return self.chunk_broke_off(halt, Verb::Content, &verbs).await;
            }
        }
        block.extend_from_slice(content.closing());
        let end = block.len();
        let gate = |progress: Progress| {
            if progress.written >= end || fence() {
                return Ok(());
            }
            Err(Halt::Fenced)
        };
        if let Err((halt, verb)) = self.complete(&block, end, gate).await {
            return self.chunk_broke_off(halt, verb, &verbs).await;
        }
        self.read_chunk_replies(&verbs).await
    }

    /// What it means that the chunk could not be written to its end: the replies to the envelope, of which a refusal
    /// may be the reason, come before anything said about the chunk.
    async fn chunk_broke_off(
        &mut self,
        halt: Halt,
        verb: Verb,
        verbs: &[Verb],
    ) -> Result<Outcome, SessionError> {
        if let Halt::Fenced | Halt::Overdue = halt {
            return Err(halt.into_error(verb));
        }
        match self.read_answers(verbs.iter().copied()).await {
            Ok(Opening::Accepted) => self.broke_off(halt, verb).await,
            Ok(Opening::Refused(refusal)) => Ok(Outcome::Refused(refusal)),
            Err(_) => Err(halt.into_error(verb)),
        }
    }

    /// Reads the replies to the envelope's commands, and the one to the chunk, which comes in any case.
    async fn read_chunk_replies(&mut self, verbs: &[Verb]) -> Result<Outcome, SessionError> {
        let opening = self.read_answers(verbs.iter().copied()).await;
        let outcome = match opening.map_err(SessionError::behind_the_end)? {
            Opening::Accepted => self.read_final_reply(None).await?,
            Opening::Refused(refusal) => {
                if self.is_reusable() {
                    self.skip_chunk_reply().await;
                }
                Outcome::Refused(refusal)
            }
        };
        // RFC 3030 section 2: after a refused chunk, the transaction is still there to be reset.
        if let (Outcome::Refused(_), State::Ready) = (&outcome, &self.state) {
            self.state = State::Spoiled;
        }
        Ok(outcome)
    }

    /// Reads the reply to a chunk that nobody is left to receive.
    async fn skip_chunk_reply(&mut self) {
        match self.wire.reply(Verb::EndOfData).await {
            Ok(reply) if reply.code() != 421 => {}
            Ok(_) | Err(_) => self.state = State::Over,
        }
    }
}
