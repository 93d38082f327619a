//! connring alone: each fault with three Redis, and a partition also with PostgreSQL and nginx. No wrong answer, no
//! lost permit, no stall, few failures, and the server is used again.

#![cfg(unix)]

use std::env;
use std::process::Command;

use connring_real_servers::REQUIRE;
use rustix::process::geteuid;

/// Fails as the program does.
///
/// Servers may be used again later than the program asks for by itself: an unoptimized build on a machine that is busy
/// with other tests starts a PostgreSQL slowly, and tries a server again late.
fn passes(arguments: &[&str]) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_connring-faults"));
    let status = program.args(["--alone", "--back-within", "5"]).args(arguments).status().expect("it starts");
    assert!(status.success(), "{arguments:?}: {status}");
}

/// One test, since two loads at once would disturb each other.
#[test]
fn three_servers_outlast_each_fault_of_one() {
    passes(&["redis"]);
    if env::var_os(REQUIRE).is_none() && !geteuid().is_root() {
        println!("skipped: a partition needs a network namespace, and that root");
        return;
    }
    passes(&["postgres", "nginx", "--fault", "partition"]);
}
