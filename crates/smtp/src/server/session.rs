//! One session from greeting to end, as a list of steps.

mod commands;
mod misbehave;
mod receive;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use model::{EnhancedCode, Reply};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{Act, Answer};
use super::command::{Command, CommandError, Context, line_limit};
use super::extensions::Extension;
use super::handler::Handler;
use super::manner::Stage;
use super::settings::Settings;
use super::transaction::Transaction;
use super::wire::{Line, Wire, WireError};

/// How a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client said QUIT.
    Quit,
    /// The client closed the connection.
    PeerClosed,
    /// We closed it, because of what the client did.
    Refused,
    /// The handler closed it.
    ByHandler,
    /// We closed it, because we were told to end.
    Drained,
}

/// Why a session broke off.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client took too long to send or to read.
    #[error("the client is too slow")]
    Timeout,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// Speaks SMTP on `stream` until one side ends it.
///
/// Once `drain` resolves, content on its way is taken and answered, and the client is told 421 at the next command
/// that would have to be waited for or would begin a message.
pub async fn serve<S, H, D>(
    stream: S,
    settings: &Settings,
    handler: &mut H,
    drain: D,
) -> Result<Ended, ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
    D: Future<Output = ()> + Send,
{
    let mut session = Session {
        wire: Wire::new(stream, settings.limits),
        settings,
        handler,
        drain: pin!(drain),
        draining: false,
        transaction: Transaction::default(),
        errors: 0,
        idle_commands: 0,
    };
    let Err(stop) = session.run().await;
    match stop {
        Stop::Abruptly => Ok(Ended::ByHandler),
        Stop::Ended(ended) => {
            session.wire.close().await;
            Ok(ended)
        }
        Stop::Failed(error) => Err(error),
    }
}

/// Why no further command is read.
#[derive(Debug)]
enum Stop {
    Ended(Ended),
    Abruptly,
    Failed(ServeError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed => Self::Ended(Ended::PeerClosed),
            WireError::Timeout => Self::Failed(ServeError::Timeout),
            WireError::Io(source) => Self::Failed(ServeError::Io(source)),
            WireError::Tls(source) => Self::Failed(ServeError::Tls(source)),
        }
    }
}

type Step<T = ()> = Result<T, Stop>;

struct Session<'a, S, H, D> {
    wire: Wire<S>,
    settings: &'a Settings,
    handler: &'a mut H,
    drain: Pin<&'a mut D>,
    draining: bool,
    transaction: Transaction,
    errors: u32,
    /// Since the last MAIL that was granted.
    idle_commands: u32,
}

fn reply(code: u16, enhanced: (u8, u16, u16), text: &str) -> Reply {
    let (class, subject, detail) = enhanced;
    Reply::new(code, Some(EnhancedCode(class, subject, detail)), text)
}

fn is_positive(class: Option<u8>) -> bool {
    class == Some(2)
}

impl<S, H, D> Session<'_, S, H, D>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
    D: Future<Output = ()> + Send,
{
    async fn run(&mut self) -> Step<Infallible> {
        self.greet().await?;
        loop {
            match self.next_command().await? {
                Ok(command) => {
                    self.check_group(&command)?;
                    self.check_purpose(&command)?;
                    self.obey(command).await?;
                }
                Err(error) if error.loses_sync() => return self.end_with(&error.reply()),
                Err(error) => self.refuse(&error.reply())?,
            }
        }
    }

    /// Greets, unless the client talks first.
    async fn greet(&mut self) -> Step {
        let mut answer = self.handler.greet().await;
        let pause = std::mem::take(&mut answer.delay);
        if self.wire.interrupted(pause).await? {
            return self.end_with(&reply(554, (5, 5, 1), "you talked before the greeting"));
        }
        if let Act::Say(greeting) = &answer.act {
            answer.act = Act::Say(self.introduce(greeting));
        }
        let reply = self.carry_out(answer).await?;
        self.misbehave(Stage::Greeting, &reply).await?;
        Ok(())
    }

    /// A reply that begins with our name, as the greeting and the answer to EHLO must (RFC 5321 section 4.3.1).
    fn introduce(&self, reply: &Reply) -> Reply {
        let text = format!("{} {}", self.settings.hostname, reply.text());
        Reply::new(reply.code(), None, &text)
    }

    async fn next_command(&mut self) -> Step<Result<Command, CommandError>> {
        let context = Context {
            extensions: self.offered(),
            hostname: &self.settings.hostname,
            smtp_utf8: self.transaction.has_smtp_utf8(),
        };
        Ok(match self.next_line().await? {
            Line::Whole(line) => context.read(&line),
            Line::TooLong => Err(CommandError::TooLong),
        })
    }

    /// The next line; sends the replies gathered once none waits.
    async fn next_line(&mut self) -> Step<Line> {
        if !self.wire.has_line() || self.wire.has_gathered_much() {
            self.wire.flush().await?;
        }
        let deadline = Instant::now() + self.settings.limits.read;
        loop {
            if self.draining && !(self.transaction.is_open() && self.wire.has_line()) {
                self.say(&reply(421, (4, 3, 2), "shutting down"));
                return Err(Stop::Ended(Ended::Drained));
            }
            tokio::select! {
                biased;
                () = self.drain.as_mut(), if !self.draining => self.draining = true,
                line = timeout_at(deadline, self.wire.line(line_limit)) => match line {
                    Ok(line) => return Ok(line?),
                    Err(_) => return self.give_up().await,
                },
            }
        }
    }

    async fn give_up<T>(&mut self) -> Step<T> {
        self.say(&reply(421, (4, 4, 2), "waited too long for you"));
        self.wire.flush().await?;
        Err(WireError::Timeout.into())
    }

    /// Refuses what may not stand behind a command that must end its group (RFC 2920 section 3.1).
    fn check_group(&mut self, command: &Command) -> Step {
        let ends_group = match command {
            Command::Hello(_) | Command::Data | Command::StartTls => true,
            Command::Mail(_)
            | Command::Rcpt(_)
            | Command::Rset
            | Command::Noop
            | Command::Vrfy
            | Command::Help => !self.offered().offer(Extension::Pipelining),
            Command::Bdat(_) | Command::Quit => false,
        };
        if ends_group && self.wire.has_input() {
            return self.end_with(&reply(554, (5, 5, 1), "improper pipelining"));
        }
        Ok(())
    }

    /// Ends the session with a client that only keeps it busy.
    fn check_purpose(&mut self, command: &Command) -> Step {
        let is_idle = match command {
            Command::Hello(_) | Command::Noop | Command::Vrfy | Command::Help => true,
            Command::Rset => !self.transaction.is_open(),
            Command::Mail(_)
            | Command::Rcpt(_)
            | Command::Data
            | Command::Bdat(_)
            | Command::StartTls
            | Command::Quit => false,
        };
        self.idle_commands += u32::from(is_idle);
        if self.idle_commands > self.settings.limits.idle_commands {
            return self.end_with(&reply(
                421,
                (4, 7, 0),
                "too many commands without a message",
            ));
        }
        Ok(())
    }

    async fn obey(&mut self, command: Command) -> Step {
        match command {
            Command::Hello(hello) => self.hello(hello).await,
            Command::Mail(sender) => self.mail(sender).await,
            Command::Rcpt(recipient) => self.rcpt(recipient).await,
            Command::Data => self.data().await,
            Command::Bdat(chunk) => self.bdat(chunk).await,
            Command::StartTls => self.start_tls().await,
            Command::Rset => {
                self.transaction.reset();
                self.say_as(Stage::Rset, reply(250, (2, 0, 0), "ok")).await
            }
            Command::Noop => {
                self.say(&reply(250, (2, 0, 0), "ok"));
                Ok(())
            }
            Command::Vrfy => {
                self.say(&reply(252, (2, 1, 5), "send some mail and see"));
                Ok(())
            }
            Command::Help => {
                self.say(&reply(214, (2, 0, 0), "see RFC 5321"));
                Ok(())
            }
            Command::Quit => {
                self.say_as(Stage::Quit, reply(221, (2, 0, 0), "bye"))
                    .await?;
                Err(Stop::Ended(Ended::Quit))
            }
        }
    }

    /// Does what the handler wants and answers what was said.
    async fn carry_out(&mut self, answer: Answer) -> Step<Reply> {
        self.pause(answer.delay).await?;
        match answer.act {
            Act::Say(reply) => {
                self.say(&reply);
                Ok(reply)
            }
            Act::SayAndClose(reply) => {
                self.say(&reply);
                Err(Stop::Ended(Ended::ByHandler))
            }
            Act::Close => {
                self.wire.flush().await?;
                Err(Stop::Abruptly)
            }
            Act::Hang => self.outlast().await,
        }
    }

    /// Says nothing more, until the peer gives up or we are told to end.
    async fn outlast<T>(&mut self) -> Step<T> {
        self.wire.flush().await?;
        if !self.draining {
            tokio::select! {
                outlasted = self.wire.outlast() => outlasted?,
                () = self.drain.as_mut() => {}
            }
        }
        Err(Stop::Abruptly)
    }

    async fn pause(&mut self, delay: Duration) -> Step {
        if !delay.is_zero() {
            self.wire.flush().await?;
            sleep(delay).await;
        }
        Ok(())
    }

    fn say(&mut self, reply: &Reply) {
        if self
            .settings
            .extensions
            .offer(Extension::EnhancedStatusCodes)
        {
            self.wire.say(reply);
        } else {
            self.wire.say(&Reply::new(reply.code(), None, reply.text()));
        }
    }

    /// Says `reply` to a client that erred, and ends the session with one that errs too often.
    fn refuse(&mut self, refusal: &Reply) -> Step {
        self.say(refusal);
        self.errors += 1;
        if self.errors >= self.settings.limits.errors {
            return self.end_with(&reply(421, (4, 7, 0), "too many errors"));
        }
        Ok(())
    }

    fn end_with<T>(&mut self, reply: &Reply) -> Step<T> {
        self.say(reply);
        Err(Stop::Ended(Ended::Refused))
    }
}
