//! Reads replies and writes octets, each within a deadline.
//!
//! Knows verbs only to name them in errors. While it waits to write it keeps reading, so that two sides that both
//! write cannot wait for each other, and so that a peer that speaks out of turn is heard at once.
//! Invariant: the input buffer is bounded, and what is in it was sent after everything that was read before.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::reply::{RawReply, ReplyParser};
use super::stream::Stream;
use super::{SessionError, Timeouts, Verb, Violation};

/// How much of what the peer sends is taken in before somebody asks for it.
const INPUT_LIMIT: usize = 64 * 1024;
/// The least room that is made for one read.
const READ_ROOM: usize = 1024;

/// One connection with its input buffer.
pub(crate) struct Wire {
    stream: Stream,
    input: BytesMut,
    ended: bool,
    broken: bool,
    timeouts: Timeouts,
    /// When the content that is being sent must have left.
    content_until: Instant,
}

/// How far a write has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Octets the stream has taken.
    pub(crate) written: usize,
    /// The peer has spoken, or ended the connection, before or while this is written.
    pub(crate) heard: bool,
}

/// Asked before every attempt to write more: whether to go on.
pub(crate) trait Gate: FnMut(Progress) -> Result<(), Halt> {}

impl<F: FnMut(Progress) -> Result<(), Halt>> Gate for F {}

/// Why a write ended early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The gate heard the peer.
    Heard,
    /// The gate asked the fence, which said no.
    Fenced,
    /// The stream failed.
    Failed(io::Error),
    /// The deadline passed.
    Overdue,
}

impl Halt {
    /// The same as an error at `verb`.
    pub(crate) fn into_error(self, verb: Verb) -> SessionError {
        match self {
            Self::Heard => SessionError::Closed { verb },
            Self::Fenced => SessionError::Fenced,
            Self::Failed(source) => SessionError::from_io(verb, source),
            Self::Overdue => SessionError::Timeout { verb },
        }
    }
}

impl Wire {
    pub(crate) fn new(stream: Stream, timeouts: Timeouts) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            ended: false,
            broken: false,
            timeouts,
            content_until: Instant::now(),
        }
    }

    /// Content begins: from here on all its blocks together have their deadline.
    pub(crate) fn begin_content(&mut self) {
        self.content_until = Instant::now() + self.timeouts.content;
    }

    /// The stream, to put TLS on it. What was read from it and not used is lost; see [`Wire::has_unread`].
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Whether the stream may have sent octets of a write that failed.
    pub(crate) fn keeps_writes(&self) -> bool {
        self.stream.keeps_writes()
    }

    /// Whether something the peer sent, or the end of the connection, waits to be read. Does not wait.
    pub(crate) fn has_heard(&mut self) -> bool {
        self.take_in(&mut Context::from_waker(Waker::noop()));
        self.heard()
    }

    /// Whether something the peer sent waits to be read. Does not wait.
    pub(crate) fn has_unread(&mut self) -> bool {
        self.has_heard() && !self.input.is_empty()
    }

    /// Fails unless the peer is silent: whatever it says now was not asked for. Only a 421 may come at any time (RFC 5321
    /// section 3.8), and answers what was about to be asked.
    async fn expect_silence(&mut self, verb: Verb) -> Result<Option<RawReply>, SessionError> {
        if self.has_unread() {
            let unasked = timeout(self.timeouts.quit, self.read_reply(verb)).await;
            return match unasked {
                Ok(Ok(reply)) if reply.code() == 421 => Ok(Some(reply)),
                Ok(_) | Err(_) => {
                    let violation = Violation::Unsolicited;
                    Err(SessionError::Protocol { verb, violation })
                }
            };
        }
        if self.ended {
            return Err(SessionError::Closed { verb });
        }
        Ok(None)
    }

    /// Whether a write has failed. What the peer said before that can still be read.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Sends one command and reads its reply, even if the peer closed while the command was written.
    pub(crate) async fn ask(&mut self, verb: Verb, line: &str) -> Result<RawReply, SessionError> {
        if let Some(last_words) = self.expect_silence(verb).await? {
            return Ok(last_words);
        }
        let sent = self.command(verb, line).await;
        let reply = self.reply(verb).await;
        reply.map_err(|unread| sent.err().unwrap_or(unread))
    }

    /// Sends one command, or several of which `verb` is the first.
    pub(crate) async fn command(&mut self, verb: Verb, lines: &str) -> Result<(), SessionError> {
        self.write(verb, lines.as_bytes(), &mut 0, |_| Ok(()))
            .await
            .map_err(|halt| halt.into_error(verb))
    }

    /// Reads one reply to `verb`, all of it within the verb's deadline. Once a write has failed there is little to
    /// wait for, except where the peer may hold a message.
    pub(crate) async fn reply(&mut self, verb: Verb) -> Result<RawReply, SessionError> {
        let waiting = match verb {
            Verb::EndOfData => verb,
            _ if self.broken => Verb::Quit,
            _ => verb,
        };
        let reply = timeout(self.timeouts.of(waiting), self.read_reply(verb))
            .await
            .unwrap_or(Err(SessionError::Timeout { verb }))?;
        tracing::trace!(%verb, code = reply.code(), "reply");
        Ok(reply)
    }

    async fn read_reply(&mut self, verb: Verb) -> Result<RawReply, SessionError> {
        let mut parser = ReplyParser::default();
        loop {
            let parsed = parser
                .parse(&mut self.input)
                .map_err(|violation| SessionError::Protocol { verb, violation })?;
            if let Some(reply) = parsed {
                return Ok(reply);
            }
            if self.ended {
                return Err(SessionError::Closed { verb });
            }
            self.input.reserve(READ_ROOM);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => return Err(SessionError::from_io(verb, error)),
            }
        }
    }

    /// Writes and flushes all of `octets` within the verb's deadline, as long as `gate` allows. How many the stream
    /// took is told through `written`, whatever happens.
    pub(crate) async fn write(
        &mut self,
        verb: Verb,
        octets: &[u8],
        written: &mut usize,
        mut gate: impl Gate,
    ) -> Result<(), Halt> {
        let mut limit = self.timeouts.of(verb);
        if verb == Verb::Content {
            limit = limit.min(self.content_until - Instant::now());
        }
        let work = std::future::poll_fn(|cx| self.poll_write_all(cx, octets, written, &mut gate));
        let result = timeout(limit, work).await.unwrap_or(Err(Halt::Overdue));
        self.broken |= result.is_err();
        result
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        octets: &[u8],
        written: &mut usize,
        gate: &mut impl Gate,
    ) -> Poll<Result<(), Halt>> {
        self.take_in(cx);
        loop {
            gate(Progress {
                written: *written,
                heard: self.heard(),
            })?;
            let stream = Pin::new(&mut self.stream);
            let rest = &octets[*written..];
            let step = if rest.is_empty() {
                stream.poll_flush(cx).map_ok(|()| Step::Flushed)
            } else {
                stream.poll_write(cx, rest).map_ok(Step::Took)
            };
            match step {
                Poll::Ready(Ok(Step::Flushed)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Step::Took(0))) => return Poll::Ready(Err(Halt::Failed(gone()))),
                Poll::Ready(Ok(Step::Took(more))) => *written += more,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Halt::Failed(error))),
                // A peer that has ended its side can answer nothing any more.
                Poll::Pending if self.ended => return Poll::Ready(Err(Halt::Failed(gone()))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Says goodbye to the transport; the session is over either way.
    pub(crate) async fn shut_down(&mut self) {
        let _ = timeout(self.timeouts.quit, self.stream.shutdown()).await;
    }

    fn heard(&self) -> bool {
        self.ended || !self.input.is_empty()
    }

    /// Reads what is there, up to the limit.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.input.len() < INPUT_LIMIT {
            self.input.reserve(READ_ROOM);
            match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(0) | Err(_)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
            }
        }
    }
}

/// One step of a write.
enum Step {
    Took(usize),
    Flushed,
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
