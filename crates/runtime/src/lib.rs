//! What every service needs of its process: configuration, tasks with names, and an orderly end.
//!
//! Owns the environment, the signals and `tokio::spawn`; nothing else touches them. Knows nothing of mail.

mod config;
mod faults;
mod shutdown;
mod tasks;

pub use config::{ConfigError, environment, load_config};
pub use faults::{Fault, Faults};
pub use shutdown::{Shutdown, on_signal};
pub use tasks::{StillBusy, Tasks};
