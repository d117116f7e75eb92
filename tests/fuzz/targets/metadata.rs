#![no_main]
//! Fuzzes what is said in `src/metadata.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::metadata::check(data));
