//! Messages for peers without 8BITMIME.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| smtp::client::fuzz::seven_bit(octets));
