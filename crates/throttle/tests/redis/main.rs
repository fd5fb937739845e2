//! The throttle against a real Redis: alive, stopped, killed and wiped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod away;
mod classes;
mod heirs;
mod log;
mod rates;
mod server;
mod slots;
mod wiped;
mod worker;
