//! What the caller decides about a session.

use super::{HostName, Timeouts, TlsSettings};

/// Whether the session is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// DATA, dots and all (RFC 5321).
    Data,
    /// BDAT LAST in the same group as its envelope where the peer offers CHUNKING (RFC 3030), otherwise DATA.
    ///
    /// One round trip for each message without looking ahead, at the price of sending the content of a message
    /// whose recipient is going to be refused.
    Chunking,
}

/// What becomes of 8-bit content when the peer does not offer 8BITMIME (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EightBit {
    /// It is sent as it is. Re-encoding would break its signature, and servers that clear the eighth bit are gone.
    Send,
    /// It is refused with 5.6.3, as the letter of the RFC has it.
    Refuse,
}

/// What a session is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Our own name, which should be that of the source address (RFC 5321 section 4.1.1.1).
    pub hello: HostName,
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
    /// Opportunistic TLS, the RFC's timeouts, DATA, 8-bit content as it is.
    pub fn new(hello: HostName, tls_settings: TlsSettings) -> Self {
        Self {
            hello,
            tls: TlsMode::Opportunistic,
            tls_settings,
            timeouts: Timeouts::default(),
            framing: Framing::Data,
            eight_bit: EightBit::Send,
        }
    }
}
