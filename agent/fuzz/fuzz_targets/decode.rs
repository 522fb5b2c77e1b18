#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| sextant_agent::export::fuzzing::decode(octets));
