#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| sextant_agent::bgp::fuzzing::session(octets));
