//! What a client says of a message before it sends it.

use model::{Address, ByteSize};

/// The client's name for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// EHLO: the client knows extensions.
    Ehlo(String),
    /// HELO: it does not.
    Helo(String),
}

impl Hello {
    /// The name or address literal given; printable ASCII, not verified in any way.
    pub fn name(&self) -> &str {
        match self {
            Self::Ehlo(name) | Self::Helo(name) => name,
        }
    }
}

/// MAIL FROM, with its parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sender {
    /// The reverse-path; `None` is `<>`.
    pub address: Option<Address>,
    /// SIZE, where declared (RFC 1870).
    pub size: Option<ByteSize>,
    /// Whether BODY=8BITMIME was declared (RFC 6152).
    pub eight_bit: bool,
    /// Whether SMTPUTF8 was asked for (RFC 6531).
    pub smtp_utf8: bool,
    /// Whether REQUIRETLS was asked for (RFC 8689).
    pub require_tls: bool,
    /// RET as it came, `FULL` or `HDRS`; may be empty (RFC 3461).
    pub ret: String,
    /// ENVID as it came, still in xtext; may be empty (RFC 3461).
    pub envid: String,
}

/// RCPT TO, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path.
    pub address: Address,
    /// NOTIFY's keywords, in upper case; may be empty (RFC 3461).
    pub notify: Vec<String>,
    /// ORCPT as it came, still in xtext; may be empty (RFC 3461).
    pub orcpt: String,
}

/// From whom, and to those recipients that the handler took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// MAIL FROM.
    pub sender: Sender,
    /// RCPT TO, one for each that was answered 2xx.
    pub recipients: Vec<Recipient>,
}

/// A message as it arrived, not yet answered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// From whom, to whom.
    pub envelope: Envelope,
    /// The content without dot-stuffing: CRLF lines, no bare CR or LF, no NUL.
    pub content: Vec<u8>,
}
