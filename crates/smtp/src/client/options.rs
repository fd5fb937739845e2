//! What the caller decides about a session.

use super::{HostName, Timeouts, TlsSettings};

/// Whether the session is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Never: STARTTLS is not asked for.
    Off,
    /// Where the peer offers STARTTLS (RFC 7435). A certificate that does not verify is recorded in
    /// [`TlsDetails`](super::TlsDetails) and the session goes on.
    Opportunistic,
    /// With a certificate that verifies for the peer's name, or not at all: no MAIL is ever sent in the clear.
    Required,
}

/// How content is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// DATA, dots and all (RFC 5321).
    Data,
    /// BDAT LAST in the same group as its envelope where the peer offers CHUNKING (RFC 3030), otherwise DATA.
    ///
    /// One round trip for each message without looking ahead, at the price of sending the content of a message
    /// whose recipient is going to be refused.
    Chunking,
}

/// How the session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// With EHLO; with HELO where EHLO is refused with a 5xx.
    Esmtp,
    /// With HELO, to a server that hangs up on EHLO: no extension, so no TLS either (RFC 5321 section 3.2).
    Smtp,
}

/// What becomes of 8-bit content when the peer does not offer 8BITMIME (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EightBit {
    /// It is made 7-bit ([`mime::to_seven_bit`](crate::mime::to_seven_bit)), or refused with 5.6.3 where that cannot be.
    ///
    /// Who signs does this before: the session's [`Extensions`](super::Extensions) say whether it is needed.
    Reencode,
    /// It is sent as it is, against the RFC: servers that clear the eighth bit are nearly gone, and a signature holds.
    Send,
    /// It is refused with 5.6.3.
    Refuse,
}

/// What a session is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Our own name, which should be that of the source address (RFC 5321 section 4.1.1.1).
    pub hello: HostName,
    /// How it is said.
    pub dialect: Dialect,
    /// Whether the session is encrypted.
    pub tls: TlsMode,
    /// Whom we trust.
    pub tls_settings: TlsSettings,
    /// How long each state may last.
    pub timeouts: Timeouts,
    /// How content is framed.
    pub framing: Framing,
    /// What becomes of 8-bit content that the peer did not offer to take.
    pub eight_bit: EightBit,
}

impl Options {
    /// Opportunistic TLS, the RFC's timeouts, DATA, 8-bit content encoded anew where it must be.
    pub fn new(hello: HostName, tls_settings: TlsSettings) -> Self {
        Self {
            hello,
            dialect: Dialect::Esmtp,
            tls: TlsMode::Opportunistic,
            tls_settings,
            timeouts: Timeouts::default(),
            framing: Framing::Data,
            eight_bit: EightBit::Reencode,
        }
    }
}
