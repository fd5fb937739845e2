//! What a failure is taken to mean.

/// What a failure says, and about whom. Only the first four speak of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BounceClass {
    /// No such mailbox.
    InvalidRecipient,
    /// The mailbox exists but is disabled.
    InactiveMailbox,
    /// The domain does not exist or takes no mail.
    BadDomain,
    /// The mailbox is over its quota.
    MailboxFull,
    /// SPF, DKIM or DMARC failed.
    AuthFailure,
    /// The sending address or domain is blocked or mistrusted.
    Reputation,
    /// Too much mail, too fast, or over too many connections.
    RateLimited,
    /// An unknown sender is asked to come back.
    Greylisted,
    /// The content was refused: spam, malware or malformed.
    Content,
    /// The message is larger than the receiver takes.
    MessageTooLarge,
    /// The receiver's own rules refuse it.
    Policy,
    /// DNS gave no usable answer.
    Dns,
    /// No connection could be made.
    Connect,
    /// TLS could not be agreed on.
    Tls,
    /// The peer did not speak SMTP as it should.
    Protocol,
    /// The peer did not answer in time.
    Timeout,
    /// The receiving system has a fault of its own.
    RemoteSystem,
    /// The reply told nothing more than its code.
    Undetermined,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permanence {
    /// The same attempt may succeed later.
    Soft,
    /// The same attempt will fail again.
    Hard,
}

/// What we conclude from a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What the failure says.
    pub class: BounceClass,
    /// Whether the job is tried again.
    pub permanence: Permanence,
}
