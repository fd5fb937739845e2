//! What stands behind DATA.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| smtp::server::fuzz::contents(octets));
