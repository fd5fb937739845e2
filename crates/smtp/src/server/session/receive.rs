//! The content of a message: DATA and BDAT.

use std::future::Future;

use model::Reply;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Ended, Session, Step, Stop, reply};
use crate::server::command::Chunk;
use crate::server::content::{Content, ContentFault};
use crate::server::dots::Dots;
use crate::server::envelope::Message;
use crate::server::handler::Handler;
use crate::server::manner::Stage;
use crate::server::wire::WireError;

impl<S, H, D> Session<'_, S, H, D>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
    D: Future<Output = ()> + Send,
{
    /// DATA: content up to CRLF.CRLF.
    pub(super) async fn data(&mut self) -> Step {
        if let Err(reply) = self.transaction.check_data() {
            return self.refuse(&reply);
        }
        let go_on = Reply::new(354, None, "end with <CRLF>.<CRLF>");
        self.wire.say(&go_on);
        if self.misbehave(Stage::Data, &go_on).await? != Some(3) {
            return Ok(());
        }
        self.wire.flush().await?;
        self.spoil_content().await?;
        let mut content = Content::new(self.settings.max_message);
        let mut dots = Dots::new();
        loop {
            let input = self.content().await?;
            let end = dots.feed(input, &mut content);
            let used = end.unwrap_or(input.len());
            self.wire.used(used);
            if end.is_some() {
                return self.conclude(content).await;
            }
            self.check_patience(&content)?;
        }
    }

    /// BDAT: so many octets, and perhaps more to come.
    pub(super) async fn bdat(&mut self, chunk: Chunk) -> Step {
        let sequence = self.transaction.check_bdat();
        let begun = self.transaction.take_chunks();
        let mut content = begun.unwrap_or_else(|| Content::new(self.settings.max_message));
        self.spoil_content().await?;
        self.fill(chunk.size, &mut content).await?;
        if let Err(reply) = sequence {
            return self.refuse(&reply);
        }
        if chunk.last || content.fault().is_some() {
            return self.conclude(content).await;
        }
        self.transaction.keep_chunks(content);
        self.say(&reply(
            250,
            (2, 0, 0),
            &format!("{} octets received", chunk.size),
        ));
        Ok(())
    }

    /// Reads a chunk to its end, whether or not it is wanted (RFC 3030 section 2).
    async fn fill(&mut self, size: u64, content: &mut Content) -> Step {
        self.wire.flush().await?;
        let mut left = size;
        while left > 0 {
            let input = self.content().await?;
            let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
            content.push(&input[..count]);
            self.wire.used(count);
            left -= count as u64;
            self.check_patience(content)?;
        }
        Ok(())
    }

    pub(super) async fn content(&mut self) -> Step<&[u8]> {
        match self.wire.content().await {
            Ok(()) => Ok(self.wire.input()),
            Err(WireError::Timeout) => self.give_up().await,
            Err(error) => Err(error.into()),
        }
    }

    fn check_patience(&mut self, content: &Content) -> Step {
        if !content.is_beyond_patience() {
            return Ok(());
        }
        let fault = content.fault().unwrap_or(ContentFault::TooLarge);
        self.reject(fault)?;
        Err(Stop::Ended(Ended::Refused))
    }

    /// Answers for a message that has reached its end.
    async fn conclude(&mut self, content: Content) -> Step {
        match content.finish() {
            Ok(content) => {
                if let Some(envelope) = self.transaction.close() {
                    let answer = self.handler.message(Message { envelope, content }).await;
                    let reply = self.carry_out(answer).await?;
                    self.misbehave(Stage::EndOfData, &reply).await?;
                }
                Ok(())
            }
            Err(fault) => self.reject(fault),
        }
    }

    /// Refuses the message, and the connection where its end is in dispute.
    fn reject(&mut self, fault: ContentFault) -> Step {
        let reply = fault.reply();
        if let Some(envelope) = self.transaction.close() {
            self.handler.refused(&envelope, &reply);
        }
        if fault.is_disputed_end() {
            return self.end_with(&reply);
        }
        self.say(&reply);
        Ok(())
    }
}
