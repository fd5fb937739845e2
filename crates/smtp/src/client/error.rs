//! Why a session ended without an answer.

use std::io;

use model::Reply;

use super::{Verb, VerificationFailure};

/// Why a session, or a transaction in it, came to no answer. The session is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The peer did not answer, or did not take what was written, in time.
    #[error("timed out at {verb}")]
    Timeout {
        /// What the session was doing.
        verb: Verb,
    },
    /// The peer ended the connection.
    #[error("connection closed by the peer at {verb}")]
    Closed {
        /// What the session was doing.
        verb: Verb,
    },
    /// The connection failed in another way.
    #[error("connection failed at {verb}")]
    Io {
        /// What the session was doing.
        verb: Verb,
        /// What the stream reported.
        source: io::Error,
    },
    /// The peer did not speak SMTP.
    #[error("protocol violation at {verb}: {violation}")]
    Protocol {
        /// What the session was doing.
        verb: Verb,
        /// What was wrong.
        violation: Violation,
    },
    /// The peer refused the session itself, before any transaction. Only [`Session::open`](super::Session::open)
    /// returns it.
    #[error("session refused at {verb}: {reply}")]
    Refused {
        /// The command that was refused.
        verb: Verb,
        /// A 4xx or 5xx.
        reply: Reply,
    },
    /// TLS was required, or begun, and did not come about.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The fence said no: the connection was dropped before the final dot.
    #[error("dropped before the final dot: the caller's hold on the message was not proven")]
    Fenced,
    /// The peer had ended the idle session before this transaction began, or would not end the one before (RSET).
    /// Nothing was said about the message, and it was not delivered.
    #[error("the peer had ended the idle session")]
    Stale {
        /// What it had said, usually a 421.
        reply: Option<Reply>,
    },
    /// The session had ended, has no room for the transaction within the peer's limits, or had opened the transaction of
    /// another envelope ahead. Nothing was sent.
    #[error("the session cannot take this transaction")]
    Unusable,
}

impl SessionError {
    /// Whether the peer may already hold the message, so that a retry could duplicate it.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Timeout { verb }
            | Self::Closed { verb }
            | Self::Io { verb, .. }
            | Self::Protocol { verb, .. } => *verb == Verb::EndOfData,
            Self::Refused { .. }
            | Self::Tls(_)
            | Self::Fenced
            | Self::Stale { .. }
            | Self::Unusable => false,
        }
    }

    /// What the session was doing, where that is known.
    pub fn verb(&self) -> Option<Verb> {
        match self {
            Self::Timeout { verb }
            | Self::Closed { verb }
            | Self::Io { verb, .. }
            | Self::Protocol { verb, .. }
            | Self::Refused { verb, .. } => Some(*verb),
            Self::Tls(failure) => Some(failure.verb()),
            Self::Fenced => Some(Verb::Content),
            Self::Stale { .. } | Self::Unusable => None,
        }
    }

    /// What the peer said, where it said something that can be shown.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused { reply, .. } => Some(reply),
            Self::Stale { reply } => reply.as_ref(),
            Self::Tls(TlsFailure::Refused(reply)) => Some(reply),
            Self::Protocol { violation, .. } => violation.reply(),
            Self::Tls(_)
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Io { .. }
            | Self::Fenced
            | Self::Unusable => None,
        }
    }

    /// The same error, when it happened only after the message had been completed: what seems to be about an earlier
    /// command leaves the end of the data unanswered.
    pub(crate) fn behind_the_end(self) -> Self {
        let at = Verb::EndOfData;
        match self {
            Self::Timeout { .. } => Self::Timeout { verb: at },
            Self::Closed { .. } => Self::Closed { verb: at },
            Self::Io { source, .. } => Self::Io { verb: at, source },
            Self::Protocol { violation, .. } => Self::Protocol {
                verb: at,
                violation,
            },
            other @ (Self::Refused { .. }
            | Self::Tls(_)
            | Self::Fenced
            | Self::Stale { .. }
            | Self::Unusable) => other,
        }
    }

    /// An error of the stream at `verb`, told apart from the peer's going away.
    pub(crate) fn from_io(verb: Verb, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::WriteZero => Self::Closed { verb },
            _ => Self::Io { verb, source },
        }
    }
}

/// Why there is no TLS where there should be.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// The peer does not offer STARTTLS.
    #[error("the peer does not offer STARTTLS")]
    NotOffered,
    /// The peer offers STARTTLS and refused it.
    #[error("the peer refused STARTTLS: {0}")]
    Refused(Reply),
    /// Octets stood behind the reply to STARTTLS, in the clear: somebody wants them to be taken for what the peer says
    /// under TLS (CVE-2021-38371).
    #[error("unencrypted octets followed the reply to STARTTLS")]
    Injected,
    /// The handshake failed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The certificate does not verify, and it had to.
    #[error("the peer's certificate does not verify")]
    Unverified(#[source] VerificationFailure),
}

impl TlsFailure {
    fn verb(&self) -> Verb {
        match self {
            Self::NotOffered => Verb::Ehlo,
            Self::Refused(_) | Self::Injected => Verb::StartTls,
            Self::Handshake(_) | Self::Unverified(_) => Verb::Handshake,
        }
    }
}

/// What in the peer's words was not SMTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A line that does not begin with a reply code between 200 and 599.
    #[error("a line without a reply code")]
    NoCode,
    /// The lines of one reply contradict each other.
    #[error("one reply with codes {first} and {then}")]
    MixedCodes {
        /// The code of the first line.
        first: u16,
        /// The code of a later line, of another class.
        then: u16,
    },
    /// A reply longer than any server has reason to send.
    #[error("an overlong reply")]
    TooLong,
    /// A well-formed reply that does not answer the command.
    #[error("the reply {0} does not answer the command")]
    Unexpected(Reply),
    /// The peer spoke when it had not been asked.
    #[error("an unsolicited reply")]
    Unsolicited,
}

impl Violation {
    fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Unexpected(reply) => Some(reply),
            Self::NoCode | Self::MixedCodes { .. } | Self::TooLong | Self::Unsolicited => None,
        }
    }
}
