//! What servers answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| smtp::client::fuzz::replies(octets));
