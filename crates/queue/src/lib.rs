//! The durable queue on JetStream: streams, lanes, publishing, pulling, settling, events, bodies.
//!
//! The only user of NATS. Payloads are opaque here: the services encode jobs and events, and this crate moves their
//! bytes. Invariants: a publish is reported done only when JetStream acknowledged it; a schedule never carries a
//! `Nats-Msg-Id` (ADR 4); a pulled job is held, and its hold extended, until it is settled or
//! given back.

mod backlogs;
mod blobs;
mod budget;
mod bundle;
mod commit;
mod connect;
mod connection;
mod durability;
mod error;
mod events;
mod group;
mod holds;
mod lane;
mod leases;
mod map;
mod members;
mod own;
mod publish;
mod pull;
mod schedules;
mod settings;
mod settled;
mod streams;
mod tombstones;
mod waiting;

pub use backlogs::{Backlog, Backlogs};
pub use blobs::Blobs;
pub use bundle::{Bundle, Sharing};
pub use connect::Queue;
pub use durability::Condition;
pub use error::{QueueError, SetupError};
pub use events::{Encode, EventReader, EventRecorder, RecordedBatch, Since};
pub use holds::{Claim, Hold, Holds};
pub use lane::{Lane, Stage};
pub use map::LaneMap;
pub use members::Members;
pub use own::{LaneName, LaneNameError, OwnLanes};
pub use publish::Publisher;
pub use pull::{Pulled, Puller, Taken};
pub use settings::{Settings, SyncPolicy};
pub use tombstones::{Canceller, Tombstones};
pub use waiting::Pending;
