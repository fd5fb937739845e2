//! The states of a session, named after the command whose answer is awaited in them.

use std::fmt;

/// What the session was doing: the command it had sent, or the thing it was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Waiting for the 220 that opens the session.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO, to a server that does not know EHLO.
    Helo,
    /// STARTTLS.
    StartTls,
    /// The TLS handshake.
    Handshake,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, up to its 354.
    Data,
    /// The content, before its end was written: the peer cannot have accepted it.
    Content,
    /// The final dot (or the last octet of BDAT LAST) is written: the peer may hold the message.
    EndOfData,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

impl Verb {
    /// The name as it stands in logs and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Handshake => "TLS handshake",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Content => "content",
            Self::EndOfData => "end of data",
            Self::Rset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
