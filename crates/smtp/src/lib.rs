//! SMTP sessions over any byte stream: the sending half and the receiving half.
//!
//! Neither half opens a socket, knows a queue or decides what becomes of a message: they speak the protocol,
//! exactly, and report what was said. Where it must be told what time it is, it is given a clock.

pub mod client;
pub mod mime;
pub mod server;
