#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| connring_fuzz::breaker::run(data));
