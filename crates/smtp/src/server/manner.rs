//! How a server may misbehave, where its handler wants it to: silence, haste, half a reply, a lie.
//!
//! A well-behaved handler never asks for any of it, and then nothing here is in the way.

use std::time::Duration;

/// A point of the dialogue at which a server may misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// In place of the greeting.
    Greeting,
    /// In answer to EHLO or HELO.
    Hello,
    /// In answer to STARTTLS.
    StartTls,
    /// In place of the TLS handshake, behind the answer to STARTTLS.
    Handshake,
    /// In answer to MAIL.
    Mail,
    /// In answer to RCPT.
    Rcpt,
    /// In answer to DATA. BDAT has no such answer.
    Data,
    /// While content comes in, by DATA or BDAT.
    Content,
    /// In answer to the final dot, or to the last chunk.
    EndOfData,
    /// In answer to RSET.
    Rset,
    /// In answer to QUIT.
    Quit,
}

/// What a server does in place of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// It says nothing more until the peer gives up; content it does not even read.
    Hang,
    /// It sends so many octets of the reply, or takes so many of the content, and closes.
    Cut(usize),
    /// It sends the reply octet by octet, with this long before each; content it reads as slowly, and comes to no end.
    Drip(Duration),
    /// It sends the reply after this long.
    Wait(Duration),
    /// It sends these octets and takes them for the reply.
    Lie(Vec<u8>),
    /// It sends these octets and closes.
    LieAndClose(Vec<u8>),
    /// It sends these octets and nothing more until the peer gives up.
    LieAndHang(Vec<u8>),
    /// It sends the reply, and these octets behind it.
    Also(Vec<u8>),
}

impl Manner {
    /// The first digit of what is said in place of a reply with `code`; none where the peer is told nothing whole.
    pub fn class_of(&self, code: u16) -> Option<u8> {
        match self {
            Self::Hang | Self::Cut(_) => None,
            Self::Drip(_) | Self::Wait(_) | Self::Also(_) => u8::try_from(code / 100).ok(),
            Self::Lie(octets) | Self::LieAndClose(octets) | Self::LieAndHang(octets) => octets
                .first()
                .map(|digit| digit.wrapping_sub(b'0'))
                .filter(|digit| (2..=5).contains(digit)),
        }
    }
}
