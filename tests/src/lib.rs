//! The harness of the end-to-end tests: real clusters on loopback, driven and checked from outside.
//!
//! A test gets a [`Cluster`] of real servers and services, submits through [`Api`], reads events into [`Books`], and
//! holds them against the simulator's ledger. Nothing here looks into a service: what a test knows, a customer or an
//! operator could know.
//!
//! Invariants: one cluster at a time; every wait is for a condition and has a deadline; a WARN or ERROR that a test did
//! not announce fails it; nothing is left running, whether a test passes, fails or panics.

mod api;
mod arrivals;
mod books;
mod cluster;
mod disk;
mod fault;
mod logs;
mod mail;
pub mod meter;
mod redis;
mod relay;
mod streamed;
mod strings;
mod stubborn;
mod tools;
mod verbs;
mod wait;
mod world;

pub use self::api::Api;
pub use self::arrivals::Arrivals;
pub use self::books::{Books, Duplicate, Reconciled};
pub use self::cluster::{Cluster, Setup};
pub use self::disk::{Disk, Order};
pub use self::fault::{messages, moments, number, patience, standstill};
pub use self::mail::{
    bulk, deliver_all, first_attempts, letter, letter_of, letter_to, raw, submit_all,
};
pub use self::redis::{evict_above, flush_all, replace};
pub use self::relay::Relay;
pub use self::streamed::stream_stubbornly;
pub use self::strings::{around, canonical, line_ends_and_dots};
pub use self::stubborn::{Answered, keyed, submit_stubbornly};
pub use self::verbs::{Printed, Verbs};
pub use self::wait::{PATIENCE, eventually};
pub use self::world::{limited, odd_provider, own_lanes, provider, world};
