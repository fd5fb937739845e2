//! The sending half: one session with one receiving server, one recipient in each transaction.
//!
//! Decides how a transaction is put on the wire (pipelined or not, which parameters, DATA or BDAT) and what each
//! reply answers. Owns the stream and the TLS upgrade. Never chooses a host, retries, or judges a reply: a 4xx or
//! 5xx comes back as an [`Outcome`], everything else that ends an attempt as a [`SessionError`].
//!
//! Invariants:
//! - A reply is matched to the command it answers strictly by order, or the session ends; it is never taken for the
//!   answer to another message.
//! - The final dot is written only while the caller's [`Fence`] says yes; an error after it is ambiguous, an error
//!   before it is not.
//! - Whatever the peer does, each state ends within its deadline and within a bounded buffer.
//! - A `send` that is dropped half-way leaves a session that refuses to be used again.

mod answers;
mod chunk;
mod content;
mod error;
mod extensions;
mod group;
mod host;
mod open;
mod options;
mod outcome;
mod reply;
mod send;
mod session;
mod stream;
mod stuffing;
mod suitability;
mod timeouts;
mod tls;
mod transaction;
mod transfer;
mod verb;
mod wire;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use stuffing::on_the_wire;

pub use content::{Content, ContentFacts, NotCanonical};
pub use error::{SessionError, TlsFailure, Violation};
pub use extensions::Extensions;
pub use host::{HostName, HostNameError};
pub use options::{Dialect, EightBit, Framing, Options, TlsMode};
pub use outcome::{Outcome, Party, Refusal};
pub use session::{Fence, Session};
pub use stream::ByteStream;
pub use timeouts::Timeouts;
pub use tls::{TlsDetails, TlsSettings, TlsSettingsError, VerificationFailure};
pub use transaction::{Envelope, Transaction};
pub use verb::Verb;
