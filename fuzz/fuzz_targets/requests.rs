//! `gateway::fuzzing::requests`, driven by coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::requests(bytes));
