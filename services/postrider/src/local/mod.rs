//! Servers as child processes on loopback: for `all --embedded`, the demo and the tests.
//!
//! Never for production clusters, which run their own NATS and Redis. Every child is ended by pid, and dies with its
//! handle.

mod child;
mod disk;
mod embedded;
mod nats;
mod programs;
mod redis;
mod stack;

pub use child::Child;
pub use embedded::Embedded;
pub use nats::{NatsServer, SyncInterval};
pub use redis::RedisServer;
pub use stack::{Service, Stack, StackOptions, free_port, free_ports};
