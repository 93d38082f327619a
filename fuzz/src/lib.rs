//! The bodies of the fuzz targets. Each compares the code with a simple, slow reference. See `README.md`.
//!
//! `tests/fuzz_corpus.rs` of the main package compiles the same files and replays the saved corpus on stable Rust.

#[path = "../../src/raw/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod raw;
#[path = "../../src/sync.rs"]
#[allow(dead_code, unused_imports)]
mod sync;

pub mod breaker;
pub mod health;
pub mod idle;
pub mod pool_ops;
pub mod rate;
pub mod up_set;
