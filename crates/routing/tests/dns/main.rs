//! Routing against a real DNS server on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod support;

mod what_dns_says;
mod what_is_remembered;
