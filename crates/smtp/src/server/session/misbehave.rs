//! What a session does where its handler wants it to misbehave.

use std::future::Future;
use std::time::Duration;

use model::Reply;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::{Session, Step, Stop};
use crate::server::handler::Handler;
use crate::server::manner::{Manner, Stage};

impl<S, H, D> Session<'_, S, H, D>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
    D: Future<Output = ()> + Send,
{
    /// Says `reply`, unless the handler has other manners at `stage`.
    pub(super) async fn say_as(&mut self, stage: Stage, reply: Reply) -> Step {
        self.say(&reply);
        self.misbehave(stage, &reply).await?;
        Ok(())
    }

    /// Does to the reply just gathered, which has the code of `reply`, what the handler wants at `stage`.
    ///
    /// Answers the first digit of what the peer was told; none where it makes no reply.
    pub(super) async fn misbehave(&mut self, stage: Stage, reply: &Reply) -> Step<Option<u8>> {
        let Some(manner) = self.handler.manner(stage) else {
            return Ok(u8::try_from(reply.code() / 100).ok());
        };
        let class = manner.class_of(reply.code());
        let honest = self.wire.unsay();
        match manner {
            Manner::Hang => return self.outlast().await,
            Manner::Cut(count) => {
                self.wire.say_raw(&honest[..count.min(honest.len())]);
                self.wire.flush().await?;
                return Err(Stop::Abruptly);
            }
            Manner::LieAndClose(octets) => {
                self.wire.say_raw(&octets);
                self.wire.flush().await?;
                return Err(Stop::Abruptly);
            }
            Manner::LieAndHang(octets) => {
                self.wire.say_raw(&octets);
                return self.outlast().await;
            }
            Manner::Drip(gap) => self.drip(&honest, gap).await?,
            Manner::Wait(delay) => {
                self.wait(delay).await?;
                self.wire.say_raw(&honest);
            }
            Manner::Lie(octets) => self.wire.say_raw(&octets),
            Manner::Also(octets) => {
                self.wire.say_raw(&honest);
                self.wire.say_raw(&octets);
            }
        }
        Ok(class)
    }

    /// Does in place of the TLS handshake what the handler wants.
    pub(super) async fn spoil_handshake(&mut self) -> Step {
        match self.handler.manner(Stage::Handshake) {
            None => Ok(()),
            Some(Manner::Hang) => self.outlast().await,
            Some(Manner::Wait(delay) | Manner::Drip(delay)) => self.wait(delay).await,
            Some(Manner::Cut(_)) => Err(Stop::Abruptly),
            Some(
                Manner::Lie(octets)
                | Manner::LieAndClose(octets)
                | Manner::LieAndHang(octets)
                | Manner::Also(octets),
            ) => {
                // What came before the client's hello would be no answer to it.
                self.content().await?;
                self.wire.say_raw(&octets);
                self.wire.flush().await?;
                Err(Stop::Abruptly)
            }
        }
    }

    /// Does before content is read what the handler wants.
    pub(super) async fn spoil_content(&mut self) -> Step {
        match self.handler.manner(Stage::Content) {
            None => Ok(()),
            Some(Manner::Hang) => self.ignore().await,
            Some(Manner::Wait(delay)) => self.wait(delay).await,
            Some(Manner::Cut(count)) => self.swallow(count, Duration::ZERO).await,
            Some(Manner::Drip(gap)) => self.swallow(usize::MAX, gap).await,
            Some(Manner::Lie(octets) | Manner::Also(octets)) => {
                self.wire.say_raw(&octets);
                self.wire.flush().await?;
                Ok(())
            }
            Some(Manner::LieAndClose(octets)) => {
                self.wire.say_raw(&octets);
                self.wire.flush().await?;
                Err(Stop::Abruptly)
            }
            Some(Manner::LieAndHang(octets)) => {
                self.wire.say_raw(&octets);
                self.ignore().await
            }
        }
    }

    async fn drip(&mut self, octets: &[u8], gap: Duration) -> Step {
        self.wire.flush().await?;
        for octet in octets {
            self.wait(gap).await?;
            self.wire.say_raw(std::slice::from_ref(octet));
            self.wire.flush().await?;
        }
        Ok(())
    }

    /// Waits, but not beyond the order to end.
    async fn wait(&mut self, delay: Duration) -> Step {
        self.wire.flush().await?;
        if !self.draining {
            let drained = timeout(delay, self.drain.as_mut()).await;
            self.draining = drained.is_ok();
            return Ok(());
        }
        sleep(delay).await;
        Ok(())
    }

    /// Reads nothing, so that the peer's window closes, until we are told to end.
    async fn ignore<T>(&mut self) -> Step<T> {
        self.wire.flush().await?;
        if !self.draining {
            self.drain.as_mut().await;
        }
        Err(Stop::Abruptly)
    }

    /// Takes `count` octets of content, with `gap` before each, and closes.
    async fn swallow(&mut self, count: usize, gap: Duration) -> Step {
        let mut left = count;
        while left > 0 {
            let taken = if gap.is_zero() {
                self.content().await?.len().min(left)
            } else {
                self.wait(gap).await?;
                self.content().await?.len().min(1)
            };
            self.wire.used(taken);
            left -= taken;
            if self.draining {
                break;
            }
        }
        Err(Stop::Abruptly)
    }
}
