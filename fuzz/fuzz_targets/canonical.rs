//! Raw messages as they are submitted.
#![no_main]

// The module by itself: the service around it would take the broker's client and a TLS library along.
#[path = "../../services/ingest/src/raw.rs"]
#[allow(dead_code, reason = "the service uses what this does not")]
mod raw;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| raw::fuzz(octets));
