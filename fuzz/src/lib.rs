//! The bodies of the fuzz targets, each against a reference that is plain, slow and obviously right. See `README.md`.
//!
//! `tests/fuzz_corpus.rs` of the main package compiles the same files and replays the saved corpus on stable.

#[path = "../../src/raw/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod raw;
#[path = "../../src/sync.rs"]
#[allow(dead_code, unused_imports)]
mod sync;

pub mod health;
pub mod pool_ops;
pub mod rate;
