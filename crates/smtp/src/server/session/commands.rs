//! What comes before content: who the client is, and for whom the message.

use std::future::Future;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, Step, is_positive, reply};
use crate::server::answer::Act;
use crate::server::envelope::{Hello, Recipient, Sender};
use crate::server::extensions::{Extension, Extensions};
use crate::server::handler::Handler;
use crate::server::manner::Stage;
use crate::server::transaction::Transaction;

impl<S, H, D> Session<'_, S, H, D>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
    D: Future<Output = ()> + Send,
{
    pub(super) async fn hello(&mut self, hello: Hello) -> Step {
        let mut answer = self.handler.hello(&hello).await;
        let accepted = match &answer.act {
            Act::Say(reply) if reply.is_positive() => Some(self.introduce(reply)),
            Act::Say(_) | Act::SayAndClose(_) | Act::Close | Act::Hang => None,
        };
        let Some(introduction) = accepted else {
            let reply = self.carry_out(answer).await?;
            self.misbehave(Stage::Hello, &reply).await?;
            return Ok(());
        };
        self.pause(std::mem::take(&mut answer.delay)).await?;
        self.transaction.begin(hello);
        let keywords = self.keywords();
        let lines = std::iter::once(introduction.text()).chain(keywords.iter().map(String::as_str));
        self.wire.say_lines(&introduction, lines);
        self.misbehave(Stage::Hello, &introduction).await?;
        Ok(())
    }

    /// The extensions this client may use.
    pub(super) fn offered(&self) -> Extensions {
        match self.transaction.hello() {
            Some(Hello::Ehlo(_)) if self.wire.is_encrypted() => self.settings.extensions,
            Some(Hello::Ehlo(_)) => self.settings.extensions.without(Extension::RequireTls),
            Some(Hello::Helo(_)) | None => Extensions::NONE,
        }
    }

    fn keywords(&self) -> Vec<String> {
        let offered = self.offered();
        let mut keywords: Vec<String> = offered
            .iter()
            .map(|extension| match extension {
                Extension::Size => format!("SIZE {}", self.settings.max_message.0),
                other => other.keyword().to_owned(),
            })
            .collect();
        let is_ehlo = matches!(self.transaction.hello(), Some(Hello::Ehlo(_)));
        if is_ehlo {
            keywords.extend_from_slice(&self.settings.ehlo_lines);
        }
        if is_ehlo && self.settings.tls.is_some() && !self.wire.is_encrypted() {
            keywords.push("STARTTLS".to_owned());
        }
        keywords
    }

    pub(super) async fn start_tls(&mut self) -> Step {
        let Some(config) = self.settings.tls.clone() else {
            return self.refuse(&reply(502, (5, 5, 1), "TLS is not offered"));
        };
        if self.wire.is_encrypted() {
            return self.refuse(&reply(503, (5, 5, 1), "TLS is already on"));
        }
        let ready = reply(220, (2, 0, 0), "ready for TLS");
        self.say(&ready);
        if !is_positive(self.misbehave(Stage::StartTls, &ready).await?) {
            return Ok(());
        }
        self.wire.flush().await?;
        self.spoil_handshake().await?;
        let facts = self.wire.encrypt(config).await?;
        self.transaction = Transaction::default();
        self.handler.secured(&facts);
        Ok(())
    }

    pub(super) async fn mail(&mut self, sender: Sender) -> Step {
        if let Err(reply) = self.transaction.check_mail() {
            return self.refuse(&reply);
        }
        if sender.size > Some(self.settings.max_message) {
            self.say(&reply(552, (5, 3, 4), "message too large"));
            return Ok(());
        }
        let answer = self.handler.mail(&sender).await;
        let reply = self.carry_out(answer).await?;
        if is_positive(self.misbehave(Stage::Mail, &reply).await?) {
            self.idle_commands = 0;
            self.transaction.open(sender);
        }
        Ok(())
    }

    pub(super) async fn rcpt(&mut self, recipient: Recipient) -> Step {
        let most = self.settings.limits.recipients;
        let sender = match self.transaction.check_rcpt(most) {
            Ok(sender) => sender,
            Err(reply) => return self.refuse(&reply),
        };
        let answer = self.handler.rcpt(sender, &recipient).await;
        let reply = self.carry_out(answer).await?;
        if is_positive(self.misbehave(Stage::Rcpt, &reply).await?) {
            self.transaction.add(recipient);
        }
        Ok(())
    }
}
