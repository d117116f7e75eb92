#![no_main]
//! Fuzzes what is said in `src/s2ds_config.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::s2ds_config::check(data));
