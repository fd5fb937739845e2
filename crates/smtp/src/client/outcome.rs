//! What became of a transaction that was brought to its end.

use model::Reply;

use super::Verb;

/// The answer to one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has taken responsibility for the message (RFC 5321 section 4.2.5), with this reply.
    Delivered(Reply),
    /// The message was refused, for now or for good. It was not delivered.
    Refused(Refusal),
}

/// Who refused, at what, and in which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The first command that was refused.
    pub verb: Verb,
    /// A 4xx or 5xx.
    pub reply: Reply,
    /// Whose words these are.
    pub by: Party,
}

/// One of the two sides of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The receiving server.
    Peer,
    /// This client: what the peer offers does not do for this message, so it was not even asked.
    Us,
}
