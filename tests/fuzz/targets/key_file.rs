#![no_main]
//! Fuzzes what is said in `src/key_file.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::key_file::check(data));
