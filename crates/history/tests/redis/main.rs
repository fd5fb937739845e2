//! The history against a real Redis: alive, stopped, killed and wiped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod away;
mod entries;
mod eviction;
mod intent;
mod keys;
mod markers;
mod reservation;
#[path = "../../../throttle/tests/redis/server.rs"]
mod server;
mod timelines;
