#![no_main]
//! Fuzzes what is said in `src/proxy_header.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::proxy_header::check(data));
