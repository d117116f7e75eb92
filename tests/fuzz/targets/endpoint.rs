#![no_main]
//! Fuzzes what is said in `src/endpoint.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::endpoint::check(data));
