//! The content of a message behind DATA: dots, blocks, the fence and the final dot.

use model::Reply;

use super::group::Group;
use super::session::State;
use super::stuffing::Stuffed;
use super::wire::{Gate, Halt, Progress};
use super::{
    Content, Envelope, Fence, Outcome, Party, Refusal, Session, SessionError, Verb, Violation,
};

/// The most content that leaves in one write, and the most that is in flight behind the fence's answer.
const BLOCK: usize = 32 * 1024;
/// Room behind the content for the final dot and the envelope ahead, mostly.
const ROOM_BEHIND: usize = 512;

impl Session {
    /// Sends the content after a 354, and `next` behind its final dot where that is possible; reads the reply.
    pub(super) async fn transfer(
        &mut self,
        content: &Content<'_>,
        next: Option<&Envelope>,
        fence: Fence<'_>,
    ) -> Result<Outcome, SessionError> {
        let mut block = new_block(content);
        self.wire.begin_content();
        for run in Stuffed::new(content) {
            if let Err(halt) = self.fill(&mut block, run, unless_heard).await {
                return self.broke_off(halt, Verb::Content).await;
            }
        }
        block.extend_from_slice(content.closing());
        block.extend_from_slice(b".\r\n");
        let dot = block.len();
        let next = next.filter(|envelope| self.may_open_ahead(envelope));
        if let Some(envelope) = next {
            let group = Group::default().mail(envelope, &self.extensions).data();
            block.extend_from_slice(group.text().as_bytes());
        }
        let gate = |progress: Progress| match progress {
            Progress { written, .. } if written >= dot => Ok(()),
            Progress { heard: true, .. } => Err(Halt::Heard),
            Progress { .. } if fence() => Ok(()),
            Progress { .. } => Err(Halt::Fenced),
        };
        if let Err((halt, verb)) = self.complete(&block, dot, gate).await {
            return self.broke_off(halt, verb).await;
        }
        self.read_final_reply(next).await
    }

    /// Adds `run` to `block`, and sends the block when it is full. A run longer than a block is not copied.
    pub(super) async fn fill(
        &mut self,
        block: &mut Vec<u8>,
        mut run: &[u8],
        gate: impl Gate + Copy,
    ) -> Result<(), Halt> {
        while block.len() + run.len() > BLOCK {
            let (head, rest) = run.split_at(BLOCK.saturating_sub(block.len()));
            if block.is_empty() {
                self.wire.write(Verb::Content, head, &mut 0, gate).await?;
            } else {
                block.extend_from_slice(head);
                self.wire.write(Verb::Content, block, &mut 0, gate).await?;
                block.clear();
            }
            run = rest;
        }
        block.extend_from_slice(run);
        Ok(())
    }

    /// Writes the last block, of which the first `end` octets complete the message.
    ///
    /// Fails if it broke off before the message was complete, with the verb that tells whether that is certain.
    pub(super) async fn complete(
        &mut self,
        block: &[u8],
        end: usize,
        gate: impl Gate,
    ) -> Result<(), (Halt, Verb)> {
        let mut written = 0;
        let result = self
            .wire
            .write(Verb::Content, block, &mut written, gate)
            .await;
        match result {
            Ok(()) => Ok(()),
            // The message is complete; only what stands behind it did not get out. Its reply may still come.
            Err(_) if written >= end => Ok(()),
            Err(halt @ Halt::Failed(_)) if self.wire.keeps_writes() => Err((halt, Verb::EndOfData)),
            Err(halt) => Err((halt, Verb::Content)),
        }
    }

    /// What it means that the content could not be written to its end: usually the peer has said why.
    pub(super) async fn broke_off(
        &mut self,
        halt: Halt,
        verb: Verb,
    ) -> Result<Outcome, SessionError> {
        match halt {
            Halt::Fenced | Halt::Overdue => Err(halt.into_error(verb)),
            Halt::Heard => refused(verb, self.wire.reply(verb).await?.into_reply()),
            Halt::Failed(_) => match self.wire.reply(verb).await {
                Ok(raw) => refused(verb, raw.into_reply()),
                Err(_) => Err(halt.into_error(verb)),
            },
        }
    }

    /// Reads the reply to the final dot and settles what state it leaves.
    pub(super) async fn read_final_reply(
        &mut self,
        next: Option<&Envelope>,
    ) -> Result<Outcome, SessionError> {
        let verb = Verb::EndOfData;
        let reply = self.wire.reply(verb).await?.into_reply();
        let closing = reply.code() == 421 || self.wire.is_broken();
        let outcome = match reply.code() {
            200..300 => Outcome::Delivered(reply),
            _ => refused(verb, reply)?,
        };
        self.state = match next {
            _ if closing => State::Over,
            Some(envelope) => State::Ahead(Box::new(envelope.clone())),
            None => State::Ready,
        };
        if let Some(envelope) = next {
            self.count(envelope);
        }
        Ok(outcome)
    }

    /// Whether `envelope` may be sent before the reply to the message in front of it is known.
    fn may_open_ahead(&self, envelope: &Envelope) -> bool {
        self.extensions.pipelining
            && !self.sends_chunks()
            && self.has_room_for(envelope)
            && self.unsuitable(envelope).is_none()
            && !self.must_reencode(envelope)
    }
}

/// A buffer that the last block of `content` fits into.
pub(super) fn new_block(content: &Content<'_>) -> Vec<u8> {
    let size = usize::try_from(content.facts().size).unwrap_or(BLOCK);
    Vec::with_capacity(size.min(BLOCK) + ROOM_BEHIND)
}

/// The gate of content: a peer that speaks before the end has something to say.
fn unless_heard(progress: Progress) -> Result<(), Halt> {
    if progress.heard {
        return Err(Halt::Heard);
    }
    Ok(())
}

/// A 4xx or 5xx as the outcome; no other reply can refuse.
fn refused(verb: Verb, reply: Reply) -> Result<Outcome, SessionError> {
    match reply.code() {
        400..600 => Ok(Outcome::Refused(Refusal {
            verb,
            reply,
            by: Party::Peer,
        })),
        _ => {
            let violation = Violation::Unexpected(reply);
            Err(SessionError::Protocol { verb, violation })
        }
    }
}
