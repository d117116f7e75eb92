#![no_main]
//! Fuzzes what is said in `src/config.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::config::check(data));
