#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| connring_fuzz::pool_ops::run(data));
