#![no_main]
//! Fuzzes what is said in `src/template.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::template::check(data));
