//! Ingest: accepts messages over gRPC, makes them durable, and tells what became of them.
//!
//! Owns the public API. Never speaks SMTP to the outside and never decides when or where a job is sent.
//! Invariant: OK is answered only after the queue acknowledged every job of the message.

mod accept;
mod auth;
mod compose;
pub mod config;
mod draft;
mod idempotency;
mod messages;
mod projection;
mod raw;
mod readiness;
mod server;
mod shares;
mod submission;
mod violations;

pub use server::{Deps, Ingest};
