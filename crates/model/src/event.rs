//! What we publish about a job.

use jiff::Timestamp;

use crate::{
    Address, BounceClass, Class, Job, JobId, Labels, MessageId, Provider, Reply, Source, Tenant,
};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The job is durably queued.
    Accepted,
    /// An attempt failed for now.
    Deferred,
    /// The recipient's server took responsibility.
    Delivered,
    /// It cannot be delivered.
    Bounced,
    /// Its lifetime ended.
    Expired,
    /// It was set aside.
    Quarantined,
    /// Its sender cancelled it.
    Cancelled,
}

impl EventKind {
    /// Whether nothing more happens to the job.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Accepted | Self::Deferred => false,
            Self::Delivered
            | Self::Bounced
            | Self::Expired
            | Self::Quarantined
            | Self::Cancelled => true,
        }
    }

    /// The name as users know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Quarantined => "quarantined",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The connection an attempt used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Who runs the mailbox.
    pub provider: Provider,
    /// The mail exchanger's host name.
    pub mx_host: String,
    /// The address connected to.
    pub address: String,
    /// Where we sent from.
    pub source: Source,
    /// TLS version and cipher suite; empty without TLS.
    pub tls: String,
    /// Why the certificate would not verify; empty where it does.
    pub tls_verification: String,
}

/// One thing that happened to one job, readable without any other record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub occurred_at: Timestamp,
    /// Whose job.
    pub tenant: Tenant,
    /// Which queue.
    pub class: Class,
    /// Which message.
    pub message_id: MessageId,
    /// Which job.
    pub job_id: JobId,
    /// To whom.
    pub recipient: Address,
    /// Which attempt, counted from 1; 0 before any.
    pub attempt: u32,
    /// The sender's labels.
    pub labels: Labels,
    /// When the job was accepted.
    pub accepted_at: Timestamp,
    /// When the next attempt is due, on [`EventKind::Deferred`].
    pub next_attempt_at: Option<Timestamp>,
    /// What the server said.
    pub reply: Option<Reply>,
    /// What a failure was taken to mean.
    pub bounce_class: Option<BounceClass>,
    /// A failure in words, where no reply tells it; may be empty.
    pub detail: String,
    /// Where the attempt went.
    pub hop: Option<Hop>,
}

impl Event {
    /// An event of `kind` about `job`, in its attempt number `attempt`, with nothing more to tell.
    pub fn of(job: &Job, kind: EventKind, attempt: u32, occurred_at: Timestamp) -> Self {
        Self {
            kind,
            occurred_at,
            tenant: job.tenant.clone(),
            class: job.class,
            message_id: job.message_id,
            job_id: job.id,
            recipient: job.recipient.clone(),
            attempt,
            labels: job.labels.clone(),
            accepted_at: job.accepted_at,
            next_attempt_at: None,
            reply: None,
            bounce_class: None,
            detail: String::new(),
            hop: None,
        }
    }

    /// `job:attempt:kind`: the same however often the event is emitted.
    pub fn id(&self) -> String {
        format!("{}:{}:{}", self.job_id, self.attempt, self.kind.as_str())
    }
}
