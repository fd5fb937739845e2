//! The nouns of Postrider: what a message, a job, a reply and an event are.
//!
//! Everything here is a value. Nothing does I/O, knows a wire format or reads the environment, so every other
//! crate can depend on it and it depends on none of them.
//!
//! Invariant: a value that came out of a constructor here holds no CR, LF or NUL where a protocol line could
//! later be made of it.

mod address;
mod clock;
mod event;
mod id;
mod job;
mod packing;
mod provider;
mod reply;
mod sabotage;
mod tenant;
mod turns;
mod units;
mod verdict;

pub use address::{Address, AddressError, Domain};
pub use clock::{Clock, SystemClock};
pub use event::{Event, EventKind, Hop};
pub use id::{IdError, JobId, MessageId};
pub use job::{Body, Class, Dsn, EgressGroup, Job, Labels, Route};
pub use packing::{NotUnpackable, Packing};
pub use provider::{Path, Provider, Source};
pub use reply::{EnhancedCode, Reply};
pub use sabotage::Sabotage;
pub use tenant::{NameError, Tenant};
pub use turns::ClassTurns;
pub use units::{ByteSize, Rate, UnitError, parse_duration};
pub use verdict::{BounceClass, Permanence, Verdict};

/// Wall time in UTC, to the nanosecond.
pub use jiff::Timestamp;
