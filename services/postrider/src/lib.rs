//! The command line: runs the services, and speaks to them for people.
//!
//! The composition root: the only place that reads configuration files, connects the crates' parts with each other and
//! decides exit codes.

mod books;
mod cli;
pub mod client;
pub mod config;
pub mod demo;
mod deps;
pub mod load;
pub mod local;
mod reconcile;
mod serve;
mod sorted;
mod verify;

pub use cli::{Additions, main, main_with};
