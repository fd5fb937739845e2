//! From a fresh connection to a session that can take mail: greeting, EHLO, STARTTLS, EHLO.

use std::collections::HashSet;

use tokio::time::timeout;

use super::reply::RawReply;
use super::session::State;
use super::stream::Stream;
use super::wire::Wire;
use super::{
    ByteStream, Dialect, Extensions, HostName, Options, Session, SessionError, TlsDetails,
    TlsFailure, TlsMode, Verb, Violation,
};

impl Session {
    /// Opens a session with `peer` on `stream`, on which nothing has been read or written yet.
    ///
    /// `peer` is the name that the certificate must verify for: the MX host, or the one of a relay. A session that does
    /// not come about is ended with QUIT where the peer still waits for a command (RFC 5321 section 4.1.1.10).
    pub async fn open(
        stream: impl ByteStream,
        peer: &HostName,
        options: &Options,
    ) -> Result<Self, SessionError> {
        let mut opening = Opening {
            wire: Wire::new(Stream::Plain(Box::new(stream)), options.timeouts),
            options,
        };
        let (mut extensions, wants_tls) = match opening.begin().await {
            Ok(begun) => begun,
            Err(error) => return Err(opening.leave(error).await),
        };
        let mut tls = None;
        if wants_tls {
            let (secured, details) = opening.handshake(peer).await?;
            opening = secured;
            extensions = match opening.begin_anew(&details).await {
                Ok(extensions) => extensions,
                Err(error) => return Err(opening.leave(error).await),
            };
            tls = Some(details);
        }
        Ok(Self {
            wire: opening.wire,
            peer: peer.clone(),
            extensions,
            tls,
            framing: options.framing,
            eight_bit: options.eight_bit,
            state: State::Ready,
            mails: 0,
            domains: HashSet::new(),
            full: false,
        })
    }
}

/// A session that is not one yet.
struct Opening<'a> {
    wire: Wire,
    options: &'a Options,
}

impl Opening<'_> {
    /// Everything in the clear: what is offered, and whether the peer is ready for the handshake.
    async fn begin(&mut self) -> Result<(Extensions, bool), SessionError> {
        self.greeting().await?;
        let extensions = self.hello().await?;
        match self.start_tls(&extensions).await? {
            StartTls::NotWanted => Ok((extensions, false)),
            StartTls::Granted => Ok((extensions, true)),
            StartTls::Refused(reply) => Ok((self.hello_again(reply).await?, false)),
        }
    }

    /// EHLO behind a refused STARTTLS: some servers hang up on whatever comes next, which must not be a message.
    async fn hello_again(&mut self, refusal: RawReply) -> Result<Extensions, SessionError> {
        let answered = self.hello().await;
        answered.map_err(|_| TlsFailure::Refused(refusal.into_reply()).into())
    }

    /// Begins again under TLS, unless the certificate does not do: what is offered now.
    async fn begin_anew(&mut self, tls: &TlsDetails) -> Result<Extensions, SessionError> {
        if let (TlsMode::Required, Err(why)) = (self.options.tls, &tls.verification) {
            return Err(TlsFailure::Unverified(why.clone()).into());
        }
        self.hello().await
    }

    /// Says goodbye on account of `error`, to a peer that has said something sensible and goes on listening.
    async fn leave(mut self, error: SessionError) -> SessionError {
        let listens = match &error {
            SessionError::Refused { reply, .. } => reply.code() != 421,
            SessionError::Tls(
                TlsFailure::NotOffered | TlsFailure::Refused(_) | TlsFailure::Unverified(_),
            ) => true,
            SessionError::Tls(TlsFailure::Injected | TlsFailure::Handshake(_))
            | SessionError::Timeout { .. }
            | SessionError::Closed { .. }
            | SessionError::Io { .. }
            | SessionError::Protocol { .. }
            | SessionError::Fenced
            | SessionError::Stale { .. }
            | SessionError::Unusable => false,
        };
        if listens && self.wire.ask(Verb::Quit, "QUIT\r\n").await.is_ok() {
            self.wire.shut_down().await;
        }
        error
    }

    async fn greeting(&mut self) -> Result<(), SessionError> {
        let reply = self.wire.reply(Verb::Greeting).await?;
        accept(Verb::Greeting, 220, reply).map(|_| ())
    }

    /// EHLO, and HELO where the server does not know it (RFC 5321 section 3.2).
    async fn hello(&mut self) -> Result<Extensions, SessionError> {
        if self.options.dialect == Dialect::Smtp {
            return self.basic_hello().await;
        }
        let line = format!("EHLO {}\r\n", self.options.hello);
        let reply = self.wire.ask(Verb::Ehlo, &line).await?;
        if reply.code() / 100 != 5 {
            let reply = accept(Verb::Ehlo, 250, reply)?;
            return Ok(Extensions::parse(&reply));
        }
        match self.basic_hello().await {
            // It did not misunderstand EHLO, it refused to go on.
            Err(SessionError::Closed { .. } | SessionError::Io { .. }) => {
                Err(refused(Verb::Ehlo, reply))
            }
            answered => answered,
        }
    }

    async fn basic_hello(&mut self) -> Result<Extensions, SessionError> {
        let line = format!("HELO {}\r\n", self.options.hello);
        let reply = self.wire.ask(Verb::Helo, &line).await?;
        accept(Verb::Helo, 250, reply).map(|_| Extensions::default())
    }

    /// Asks for TLS if the mode wants it.
    async fn start_tls(&mut self, offered: &Extensions) -> Result<StartTls, SessionError> {
        match (self.options.tls, offered.starttls) {
            (TlsMode::Off, _) | (TlsMode::Opportunistic, false) => return Ok(StartTls::NotWanted),
            (TlsMode::Required, false) => return Err(TlsFailure::NotOffered.into()),
            (TlsMode::Opportunistic | TlsMode::Required, true) => {}
        }
        let reply = self.wire.ask(Verb::StartTls, "STARTTLS\r\n").await?;
        match (reply.code(), self.options.tls) {
            (220, _) if self.wire.has_unread() => Err(TlsFailure::Injected.into()),
            (220, _) => Ok(StartTls::Granted),
            (421, _) => Err(refused(Verb::StartTls, reply)),
            (400..600, TlsMode::Required) => Err(TlsFailure::Refused(reply.into_reply()).into()),
            (400..600, TlsMode::Off | TlsMode::Opportunistic) => Ok(StartTls::Refused(reply)),
            _ => Err(refused(Verb::StartTls, reply)),
        }
    }

    /// Puts TLS on the stream. All that the peer said in the clear is forgotten (RFC 3207 section 4.2).
    async fn handshake(self, peer: &HostName) -> Result<(Self, TlsDetails), SessionError> {
        let Stream::Plain(stream) = self.wire.into_stream() else {
            return Err(SessionError::Unusable);
        };
        let verb = Verb::Handshake;
        let connecting = self.options.tls_settings.connect(peer, stream);
        let (stream, details) = timeout(self.options.timeouts.of(verb), connecting)
            .await
            .map_err(|_| SessionError::Timeout { verb })?
            .map_err(TlsFailure::Handshake)?;
        let secured = Self {
            wire: Wire::new(Stream::Tls(Box::new(stream)), self.options.timeouts),
            options: self.options,
        };
        Ok((secured, details))
    }
}

/// What became of STARTTLS.
enum StartTls {
    /// It was not sent.
    NotWanted,
    /// The handshake follows.
    Granted,
    /// The peer refused, and where TLS is opportunistic the session goes on in the clear.
    Refused(RawReply),
}

/// The reply, if it has the code that `verb` is answered with.
fn accept(verb: Verb, code: u16, reply: RawReply) -> Result<RawReply, SessionError> {
    if reply.code() == code {
        return Ok(reply);
    }
    Err(refused(verb, reply))
}

/// A refusal of the session, or an answer that makes no sense.
fn refused(verb: Verb, reply: RawReply) -> SessionError {
    let reply = reply.into_reply();
    match reply.code() {
        400..600 => SessionError::Refused { verb, reply },
        _ => SessionError::Protocol {
            verb,
            violation: Violation::Unexpected(reply),
        },
    }
}
