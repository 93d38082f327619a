//! connring alone with a few faults: no wrong answer, no lost permit, and the server is used again.

#![cfg(unix)]

use std::process::Command;

/// Fails as the program does.
///
/// Servers may be used again later than the program asks for by itself: an unoptimized build on a machine that is busy
/// with other tests starts a PostgreSQL slowly, and tries a server again late.
fn passes(arguments: &[&str]) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_connring-faults"));
    let status = program.args(["--alone", "--back-within", "5"]).args(arguments).status().expect("it starts");
    assert!(status.success(), "{arguments:?}: {status}");
}

#[test]
fn servers_return_after_a_partition_and_a_power_cut() {
    passes(&["--fault", "partition"]);
    // Here and not beside it: two loads at once would disturb each other.
    passes(&["redis", "--fault", "reset"]);
}
