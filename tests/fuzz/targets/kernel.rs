#![no_main]
//! Fuzzes what is said in `src/kernel.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| scistream_fuzz::kernel::check(data));
