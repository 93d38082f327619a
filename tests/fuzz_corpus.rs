//! Replays the saved corpus of each fuzz target, on stable and without a fuzzer.
//!
//! It compiles the targets' bodies, and the kernel's files beside `sync` as they do. It is not in the published
//! package, which has no corpus.

#![allow(unreachable_pub, reason = "public to the fuzz targets")]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/health.rs"]
mod health;
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

/// Runs a target on each input of its corpus. A corpus that is empty or was not found checks nothing.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("a folder can be listed").path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{} has only {} inputs", folder.display(), paths.len());
    for path in paths {
        let input = fs::read(&path).expect("an input can be read");
        // Printed only if it fails.
        println!("{}", path.display());
        run(&input);
    }
}

#[test]
fn rate_replays() {
    replay("rate", rate::run);
}

#[test]
fn health_replays() {
    replay("health", health::run);
}

#[test]
fn pool_ops_replays() {
    replay("pool_ops", pool_ops::run);
}
