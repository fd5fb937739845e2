//! What clients command.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| smtp::server::fuzz::commands(octets));
