//! What a session offers, and how much it puts up with.

use std::sync::Arc;
use std::time::Duration;

use model::ByteSize;

use super::Extensions;

/// How a server presents itself. One value serves all sessions of a listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name in the greeting and in the answer to EHLO. Takes `<postmaster>`'s mail (RFC 5321 section 4.5.1).
    pub hostname: model::Domain,
    /// What EHLO offers.
    pub extensions: Extensions,
    /// Further lines of the answer to EHLO, as they stand there: extensions that ask nothing of a server.
    pub ehlo_lines: Vec<String>,
    /// The largest content taken, in octets after removing dot-stuffing.
    pub max_message: ByteSize,
    /// The certificate and key for STARTTLS, which is offered where this is.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long and how often a peer may err.
    pub limits: Limits,
}

/// How much of a peer's slowness and error is put up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The wait for one whole command line; also for each read of content (RFC 5321 section 4.5.3.2.7).
    pub read: Duration,
    /// The wait for the peer to take our replies.
    pub write: Duration,
    /// The wait for one TLS handshake.
    pub handshake: Duration,
    /// Refused commands after which the session ends. What the handler refuses does not count.
    pub errors: u32,
    /// Commands in a row that bring no message forward, such as NOOP, after which the session ends.
    pub idle_commands: u32,
    /// Recipients of one message; 452 for those beyond (RFC 5321 section 4.5.3.1.8: at least 100).
    pub recipients: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(300),
            write: Duration::from_secs(60),
            handshake: Duration::from_secs(30),
            errors: 10,
            idle_commands: 100,
            recipients: 1000,
        }
    }
}
