//! Passes the compiler version and the commit to the program, which prints them beside every figure.

use std::env;
use std::process::Command;

fn main() {
    let compiler = env::var("RUSTC").expect("cargo sets RUSTC for build scripts");
    println!("cargo::rustc-env=REPORT_RUSTC={}", first_line(&compiler, &["--version"]));
    println!(
        "cargo::rustc-env=REPORT_COMMIT={}",
        first_line("git", &["describe", "--always", "--dirty", "--abbrev=10"])
    );
    for path in ["../../.git/logs/HEAD", "../../src", "src"] {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
