#![no_main]
//! Fuzzes what is said in `src/log.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::log::check(data));
