#![no_main]
//! Fuzzes what is said in `src/manifest.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::manifest::check(data));
