//! The steps of an SMTP session that can be refused.

/// What the client had just done when the reply came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Opened the connection, and heard nothing that was a greeting.
    Connect,
    /// Waited for the greeting.
    Greeting,
    /// Said EHLO or HELO.
    Hello,
    /// Said STARTTLS.
    StartTls,
    /// Named the sender.
    MailFrom,
    /// Named the recipient.
    RcptTo,
    /// Asked to send the message.
    Data,
    /// Sent the message and its final dot.
    EndOfData,
}

impl Stage {
    /// Whether the server has heard who the message is for.
    pub fn knows_the_recipient(self) -> bool {
        match self {
            Self::Connect | Self::Greeting | Self::Hello | Self::StartTls | Self::MailFrom => false,
            Self::RcptTo | Self::Data | Self::EndOfData => true,
        }
    }

    /// Whether the server has heard anything about the message, its sender included.
    pub fn knows_the_message(self) -> bool {
        match self {
            Self::Connect | Self::Greeting | Self::Hello | Self::StartTls => false,
            Self::MailFrom | Self::RcptTo | Self::Data | Self::EndOfData => true,
        }
    }
}
