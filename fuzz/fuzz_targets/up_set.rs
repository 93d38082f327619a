#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| connring_fuzz::up_set::run(data));
