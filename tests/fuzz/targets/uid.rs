#![no_main]
//! Fuzzes what is said in `src/uid.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::uid::check(data));
