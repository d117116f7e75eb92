#![no_main]
//! Fuzzes what is said in `src/proto.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::proto::check(data));
