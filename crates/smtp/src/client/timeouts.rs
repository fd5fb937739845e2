//! How long each state of a session may last.

use std::time::Duration;

use super::Verb;

/// One deadline for each state (RFC 5321 section 4.5.3.2). It holds for the whole reply, from the moment the session
/// begins to wait: a server that sends one octet a minute does not extend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the connection to the end of the 220. 5 minutes.
    pub greeting: Duration,
    /// EHLO, HELO and STARTTLS. 5 minutes.
    pub hello: Duration,
    /// The TLS handshake. 1 minute; the RFC knows none.
    pub handshake: Duration,
    /// MAIL and RSET. 5 minutes.
    pub mail: Duration,
    /// RCPT. 5 minutes.
    pub rcpt: Duration,
    /// DATA, up to its 354. 2 minutes.
    pub data: Duration,
    /// To get rid of one block of content, at most 32 KiB. 3 minutes.
    pub block: Duration,
    /// To get rid of all the content, however many blocks it has. 30 minutes, 14 KB/s for 25 MB; the RFC knows none.
    pub content: Duration,
    /// From the final dot to its reply. 10 minutes: too little here means duplicates (RFC 1047).
    pub end_of_data: Duration,
    /// QUIT, and the last words of a peer that has hung up. 2 seconds: nothing depends on them.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            greeting: minutes(5),
            hello: minutes(5),
            handshake: minutes(1),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            content: minutes(30),
            end_of_data: minutes(10),
            quit: Duration::from_secs(2),
        }
    }
}

impl Timeouts {
    /// How long `verb` may take.
    pub fn of(&self, verb: Verb) -> Duration {
        match verb {
            Verb::Greeting => self.greeting,
            Verb::Ehlo | Verb::Helo | Verb::StartTls => self.hello,
            Verb::Handshake => self.handshake,
            Verb::Mail | Verb::Rset => self.mail,
            Verb::Rcpt => self.rcpt,
            Verb::Data => self.data,
            Verb::Content => self.block,
            Verb::EndOfData => self.end_of_data,
            Verb::Quit => self.quit,
        }
    }
}
