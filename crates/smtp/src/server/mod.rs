//! The server half of SMTP: one session over one byte stream.
//!
//! Decides what is a command, what is content and where a message ends (RFC 5321, 1870, 2034, 2920, 3030, 3207, 6531).
//! Owns the session's buffers, timeouts and limits. What to answer is the [`Handler`]'s business; connections, their
//! number and their addresses are the caller's. Never spawns, never listens.
//!
//! Invariants:
//! - Only CRLF.CRLF ends DATA. Content with a bare CR, a bare LF or a NUL is refused and the connection with it, so
//!   that no octet behind a disputed end is ever read as a command.
//! - No octet received before STARTTLS is read after it.
//! - Content is never held beyond [`Settings::max_message`].
//! - A [`Handler`] is asked for one thing at a time, in the order of the commands.

mod answer;
mod command;
mod content;
mod dots;
mod envelope;
mod extensions;
mod handler;
mod manner;
mod session;
mod settings;
mod transaction;
mod wire;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

pub use answer::{Act, Answer};
pub use envelope::{Envelope, Hello, Message, Recipient, Sender};
pub use extensions::{Extension, Extensions};
pub use handler::{Handler, TlsFacts};
pub use manner::{Manner, Stage};
pub use session::{Ended, ServeError, serve};
pub use settings::{Limits, Settings};
