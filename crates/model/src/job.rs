//! What the queue holds.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use crate::tenant::{NameError, check_name};
use crate::{Address, Domain, JobId, MessageId, Packing, Tenant};

/// What a message is to its reader. The two never share a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody waits for it: receipts, alerts, password resets.
    Transactional,
    /// Nobody waits for it: newsletters, campaigns.
    Bulk,
}

impl Class {
    /// Both, the more urgent first.
    pub const ALL: [Self; 2] = [Self::Transactional, Self::Bulk];

    /// The name as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transactional => "transactional",
            Self::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The workers that own the source addresses a job must leave from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EgressGroup(Arc<str>);

impl EgressGroup {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EgressGroup {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for EgressGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EgressGroup {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        Ok(Self(text.into()))
    }
}

/// What the sender wrote on a message for its own books; comes back in every event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Free names and values.
    pub tags: BTreeMap<String, String>,
    /// The campaign it belongs to; may be empty.
    pub campaign: String,
    /// The mailing list it belongs to; may be empty.
    pub list: String,
}

/// How a job leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Route {
    /// To the destination's mail exchangers.
    #[default]
    Mx,
    /// Through a relay, by its configured name.
    SmartHost(String),
}

/// What the sender asked of delivery status notifications (RFC 3461).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dsn {
    /// `NEVER`, or any of `SUCCESS`, `FAILURE` and `DELAY`.
    pub notify: Vec<String>,
    /// `FULL` or `HDRS`; may be empty.
    pub ret: String,
    /// The sender's envelope id; may be empty.
    pub envid: String,
    /// The original recipient; may be empty.
    pub orcpt: String,
}

/// Where the message itself is: canonical MIME, in which every line ends in CRLF, without NUL, packed as the job says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Here.
    Inline(Bytes),
    /// In the store of bodies, under this name.
    Blob(String),
}

/// One message to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Names the job.
    pub id: JobId,
    /// Names the message it is a copy of.
    pub message_id: MessageId,
    /// Whose it is.
    pub tenant: Tenant,
    /// Which queue it stands in.
    pub class: Class,
    /// Which workers may send it.
    pub egress_group: EgressGroup,
    /// The envelope sender; `None` is the null reverse-path.
    pub sender: Option<Address>,
    /// The envelope recipient.
    pub recipient: Address,
    /// Under which the suppression list knows the recipient; empty until there is one.
    pub recipient_key: Bytes,
    /// Attempts that have ended.
    pub attempt: u32,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Not to be sent before.
    pub send_at: Option<Timestamp>,
    /// Not to be tried after.
    pub expires_at: Timestamp,
    /// The sender's own labels.
    pub labels: Labels,
    /// 0 (unknown) or 1 (least) to 5 (most).
    pub engagement: u32,
    /// The pool of sources to leave from; empty for the group's default.
    pub pool: String,
    /// How it leaves.
    pub route: Route,
    /// What was asked of delivery status notifications.
    pub dsn: Dsn,
    /// RFC 8689: verified TLS all the way, or not at all.
    pub require_tls: bool,
    /// W3C trace context of the submission; may be empty.
    pub traceparent: String,
    /// XXH3-128 over `recipient_header` and the body, in this order; big endian.
    pub checksum: [u8; 16],
    /// Header fields of this copy alone, which precede the body's own; CRLF lines, may be empty.
    pub recipient_header: Bytes,
    /// The message.
    pub body: Body,
    /// How `body` is packed. The checksum is over what it was before.
    pub packing: Packing,
    /// Octets of the body before it was packed, without `recipient_header`.
    pub body_size: u64,
}

impl Job {
    /// The recipient's domain.
    pub fn destination(&self) -> &Domain {
        self.recipient.domain()
    }

    /// The attempt that is to be made now, counted from 1.
    pub fn next_attempt(&self) -> u32 {
        self.attempt + 1
    }

    /// The checksum of a copy: over its own header fields and the body. It tells what a disk or a program has spoiled;
    /// whoever can write to the queue could write a checksum that fits.
    pub fn checksum_of(recipient_header: &[u8], body: &[u8]) -> [u8; 16] {
        let mut hash = Xxh3::new();
        hash.update(recipient_header);
        hash.update(body);
        hash.digest128().to_be_bytes()
    }
}
