//! Replays the saved corpus of each fuzz target on stable Rust, without a fuzzer.
//!
//! The bodies of the targets and the files of `src/raw` are included by path, as in the crate `fuzz`. The published
//! package excludes this file, because it contains no corpus.

#![allow(unreachable_pub, reason = "the items are public for the fuzz targets")]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/breaker.rs"]
mod breaker;
#[path = "../fuzz/src/health.rs"]
mod health;
#[path = "../fuzz/src/idle.rs"]
mod idle;
#[path = "../fuzz/src/pool_ops/mod.rs"]
mod pool_ops;
#[path = "../fuzz/src/rate.rs"]
mod rate;
#[path = "../src/raw/mod.rs"]
#[allow(dead_code, unused_imports)]
mod raw;
#[path = "../src/sync.rs"]
#[allow(dead_code, unused_imports)]
mod sync;
#[path = "../fuzz/src/up_set.rs"]
mod up_set;

/// Runs a target on each input of its corpus. Panics if the corpus has fewer than ten inputs, since a replay of an
/// empty corpus would pass.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("the folder can be listed").path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{} has only {} inputs", folder.display(), paths.len());
    for path in paths {
        let input = fs::read(&path).expect("the input can be read");
        // The test harness shows this only if the run fails.
        println!("{}", path.display());
        run(&input);
    }
}

#[test]
fn replays_rate() {
    replay("rate", rate::run);
}

#[test]
fn replays_breaker() {
    replay("breaker", breaker::run);
}

#[test]
fn replays_health() {
    replay("health", health::run);
}

#[test]
fn replays_pool_ops() {
    replay("pool_ops", pool_ops::run);
}

#[test]
fn replays_up_set() {
    replay("up_set", up_set::run);
}

#[test]
fn replays_idle() {
    replay("idle", idle::run);
}
