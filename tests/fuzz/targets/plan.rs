#![no_main]
//! Fuzzes what is said in `src/plan.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::plan::check(data));
