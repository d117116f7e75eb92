#![no_main]
//! Fuzzes what is said in `src/journal.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::journal::check(data));
