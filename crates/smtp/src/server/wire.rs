//! The octets of a session: buffers, deadlines, and the change to TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::memchr;
use model::Reply;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::handler::TlsFacts;
use super::settings::Limits;

/// How much is read at a time.
const READ: usize = 16 * 1024;
/// How many octets of replies are gathered before they are sent without being asked for.
const GATHERED: usize = 16 * 1024;
/// A reply line's limit (RFC 5321 section 4.5.3.1.5), less its CRLF.
const REPLY_LINE: usize = 510;
/// A closing connection's patience, so that the last reply is not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);

/// Why octets no longer flow.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer is too slow")]
    Timeout,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// What stands at the beginning of the input.
pub(super) enum Line {
    /// A line with its line end.
    Whole(BytesMut),
    /// A line longer than allowed, thrown away.
    TooLong,
}

#[derive(Debug)]
enum Stream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
    /// In the middle of a handshake, or after one that failed.
    Gone,
}

/// A byte stream with its two buffers.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: Stream<S>,
    input: BytesMut,
    output: Vec<u8>,
    /// Where in the output the last reply begins.
    last_reply: usize,
    limits: Limits,
    /// Whether the line at the beginning of the input has lost its beginning.
    skipping: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, limits: Limits) -> Self {
        Self {
            stream: Stream::Plain(stream),
            input: BytesMut::new(),
            output: Vec::new(),
            last_reply: 0,
            limits,
            skipping: false,
        }
    }

    /// Whether the peer sent more than was taken.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether a whole line waits in the buffer.
    pub(super) fn has_line(&self) -> bool {
        memchr(b'\n', &self.input).is_some()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        match self.stream {
            Stream::Tls(_) => true,
            Stream::Plain(_) | Stream::Gone => false,
        }
    }

    /// The next line, up to and with its LF. `limit` tells how many octets a line that begins so may have.
    ///
    /// Can be dropped and called again.
    pub(super) async fn line(&mut self, limit: fn(&[u8]) -> usize) -> Result<Line, WireError> {
        loop {
            if let Some(at) = memchr(b'\n', &self.input) {
                let line = self.input.split_to(at + 1);
                let too_long = line.len() > limit(&line);
                let skipped = std::mem::take(&mut self.skipping);
                return Ok(if skipped || too_long {
                    Line::TooLong
                } else {
                    Line::Whole(line)
                });
            }
            if self.skipping || self.input.len() > limit(&self.input) {
                self.skipping = true;
                self.input.clear();
            }
            self.fill().await?;
        }
    }

    /// Waits for content, so that [`input`](Self::input) holds at least one octet.
    pub(super) async fn content(&mut self) -> Result<(), WireError> {
        if self.input.is_empty() {
            let limit = self.limits.read;
            let filled = timeout(limit, self.fill()).await;
            filled.map_err(|_| WireError::Timeout)??;
        }
        Ok(())
    }

    /// What was received and not yet taken.
    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Forgets the first `count` octets of the input.
    pub(super) fn used(&mut self, count: usize) {
        self.input.advance(count);
    }

    /// Whether the peer says something within `wait`, although it is our turn.
    pub(super) async fn interrupted(&mut self, wait: Duration) -> Result<bool, WireError> {
        tokio::task::yield_now().await;
        match timeout(wait, self.fill()).await {
            Ok(filled) => filled.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Waits until the peer closes, whatever it sends.
    pub(super) async fn outlast(&mut self) -> Result<(), WireError> {
        loop {
            self.input.clear();
            match self.fill().await {
                Ok(()) => {}
                Err(WireError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), WireError> {
        self.input.reserve(READ);
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.input).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.input).await,
            Stream::Gone => Ok(0),
        };
        match read {
            Ok(0) => Err(WireError::Closed),
            // TLS without close_notify: nothing is lost by it, since what is not complete is not taken.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(WireError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gathers a reply of one line.
    pub(super) fn say(&mut self, reply: &Reply) {
        self.say_lines(reply, std::iter::once(reply.text()));
    }

    /// Gathers a reply with the codes of `reply` and these lines.
    pub(super) fn say_lines<'a>(&mut self, reply: &Reply, lines: impl Iterator<Item = &'a str>) {
        let mut lines = lines.peekable();
        self.last_reply = self.output.len();
        while let Some(text) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            let mut line = format!("{}{separator}", reply.code());
            if let Some(enhanced) = reply.enhanced() {
                line.push_str(&format!("{enhanced} "));
            }
            let printable = |c: char| if c.is_ascii() { c } else { '?' };
            line.extend(text.chars().map(printable));
            line.truncate(REPLY_LINE);
            self.output.extend_from_slice(line.as_bytes());
            self.output.extend_from_slice(b"\r\n");
        }
    }

    /// Takes back the last reply, which was gathered and not yet sent.
    pub(super) fn unsay(&mut self) -> Vec<u8> {
        self.output.split_off(self.last_reply)
    }

    /// Gathers these octets, whatever they are.
    pub(super) fn say_raw(&mut self, octets: &[u8]) {
        self.output.extend_from_slice(octets);
    }

    pub(super) fn has_gathered_much(&self) -> bool {
        self.output.len() >= GATHERED
    }

    /// Sends the replies gathered.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        let sent = timeout(self.limits.write, self.send(&output)).await;
        self.output = output;
        self.output.clear();
        self.last_reply = 0;
        Ok(sent.map_err(|_| WireError::Timeout)??)
    }

    async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
            Stream::Tls(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
            Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Goes on under TLS. Whatever was received before is forgotten.
    pub(super) async fn encrypt(
        &mut self,
        config: Arc<rustls::ServerConfig>,
    ) -> Result<TlsFacts, WireError> {
        self.input.clear();
        let Stream::Plain(plain) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(WireError::Tls(io::ErrorKind::InvalidInput.into()));
        };
        let handshake = TlsAcceptor::from(config).accept(plain);
        let stream = timeout(self.limits.handshake, handshake)
            .await
            .map_err(|_| WireError::Timeout)?
            .map_err(WireError::Tls)?;
        let facts = facts(stream.get_ref().1);
        self.stream = Stream::Tls(Box::new(stream));
        Ok(facts)
    }

    /// Sends what is gathered and closes; reads on for a moment so that the peer sees it.
    pub(super) async fn close(mut self) {
        if self.flush().await.is_err() {
            return;
        }
        let ended = match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown().await,
            Stream::Tls(stream) => stream.shutdown().await,
            Stream::Gone => return,
        };
        if ended.is_ok() {
            let _ = timeout(LINGER, self.outlast()).await;
        }
    }
}

fn facts(connection: &rustls::ServerConnection) -> TlsFacts {
    let version = connection.protocol_version();
    let cipher = connection.negotiated_cipher_suite();
    TlsFacts {
        version: version.map_or_else(String::new, |version| format!("{version:?}")),
        cipher: cipher.map_or_else(String::new, |cipher| format!("{:?}", cipher.suite())),
    }
}
