//! The steps, in the order of CI.

use std::fs;

use crate::process::{command, run, run_command};
use crate::{Outcome, debian, failover, readme};

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn() -> Outcome,
}

pub(crate) const STEPS: &[Step] = &[
    Step { name: "format", about: "formatting by rustfmt", run: format },
    Step { name: "clippy", about: "clippy on the library, with each set of its features", run: clippy },
    Step { name: "clippy-members", about: "clippy on the other members of the workspace", run: clippy_members },
    Step { name: "docs", about: "rustdoc without warnings, with and without private items", run: docs },
    Step { name: "msrv", about: "the library builds with the oldest Rust that Cargo.toml allows", run: msrv },
    Step { name: "windows", about: "the library for Windows: types, and rustdoc without warnings", run: windows },
    Step { name: "readme-test", about: "the command under \"Test\" in README.md", run: readme_test },
    Step { name: "examples", about: "each example runs", run: examples },
    Step { name: "loom", about: "the model checks", run: loom },
    Step { name: "mutants", about: "the model checks detect mutations of src/raw", run: mutants },
    Step { name: "asan", about: "AddressSanitizer and LeakSanitizer on the slot and its users", run: asan },
    Step { name: "rate", about: "tests of rate limits on the real clock, in release mode", run: rate },
    Step { name: "test-members", about: "tests and examples of the other members of the workspace", run: test_members },
    Step { name: "soak", about: "some seconds of the soak", run: soak },
    Step { name: "instructions", about: "instructions and system calls of the hot path", run: instructions },
    Step { name: "benches", about: "each benchmark runs once", run: benches },
    Step { name: "fuzz", about: "the fuzz targets build", run: fuzz },
    Step { name: "package", about: "the published package builds", run: package },
    Step { name: "failover", about: "the failover demo with its own servers", run: failover::own_servers },
    Step {
        name: "failover-redis",
        about: "the failover demo with three Redis servers, one of which is killed and restarted",
        run: failover::redis_servers,
    },
];

/// Steps that are no part of CI.
pub(crate) const OTHER_STEPS: &[Step] =
    &[Step { name: "deny", about: "licences, sources and versions of the dependencies, by cargo-deny", run: deny }];

fn format() -> Outcome {
    run("cargo fmt --all --check")?;
    run("cargo fmt --check --manifest-path loom-tests/Cargo.toml")?;
    run("cargo fmt --check --manifest-path fuzz/Cargo.toml")
}

fn clippy() -> Outcome {
    run("cargo clippy --locked --all-targets --all-features -- -D warnings")?;
    for features in ["", "serde", "clap", "test-util", "serde,clap", "serde,test-util", "clap,test-util"] {
        run(&format!("cargo clippy --locked --no-default-features --features={features} --lib -- -D warnings"))?;
    }
    Ok(())
}

fn clippy_members() -> Outcome {
    run("cargo clippy --locked --workspace --exclude connring --all-targets -- -D warnings")?;
    for features in ["", "metrics", "opentelemetry"] {
        run(&format!(
            "cargo clippy --locked -p connring-metrics --no-default-features --features={features} --lib -- -D warnings"
        ))?;
    }
    run("cargo clippy --locked -p connring-tls --no-default-features --lib -- -D warnings")
}

/// Whether rustup has installed what a step needs. Not each machine reaches its server.
fn has_installed(line: &str) -> bool {
    let installed = run(line);
    if let Err(error) = &installed {
        println!("skipped: {error}");
    }
    installed.is_ok()
}

fn msrv() -> Outcome {
    let manifest = fs::read_to_string("Cargo.toml")?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.split('"').next());
    let version = version.ok_or("Cargo.toml has no rust-version")?;
    if !has_installed(&format!("rustup toolchain install {version} --profile minimal")) {
        return Ok(());
    }
    let line = format!("rustup run {version} cargo check --locked --all-features --lib --target-dir target/msrv");
    // `cargo xtask` has set the compiler that it uses.
    run_command(&line, command(&line).env_remove("RUSTC").env_remove("RUSTDOC").env_remove("RUSTUP_TOOLCHAIN"))
}

fn windows() -> Outcome {
    const TARGET: &str = "x86_64-pc-windows-gnu";
    if !has_installed(&format!("rustup target add {TARGET}")) {
        return Ok(());
    }
    run(&format!("cargo clippy --locked --all-features --lib --target {TARGET} -- -D warnings"))?;
    let line = format!("cargo doc --locked --no-deps --all-features --target {TARGET}");
    run_command(&line, command(&line).env("RUSTDOCFLAGS", "-D warnings"))
}

fn docs() -> Outcome {
    for line in [
        "cargo doc --locked --no-deps --all-features",
        "cargo doc --locked --no-deps --all-features --document-private-items",
        "cargo doc --locked --no-deps --workspace --exclude connring",
    ] {
        run_command(line, command(line).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    for page in ["guide/inside", "operators"] {
        let page = fs::read_to_string(format!("target/doc/connring/{page}/index.html"))?;
        let is_picture = |line: &str| line.starts_with("<svg ") && line.contains("role=\"img\"");
        if !page.lines().any(|line| is_picture(line) && !line.contains("</p>")) {
            return Err("a page without its picture: within a paragraph a browser shows its words alone".into());
        }
    }
    Ok(())
}

fn readme_test() -> Outcome {
    let readme = fs::read_to_string("README.md")?;
    run(readme::test_command(&readme)?)
}

/// Runs each file of `examples`, and the unit tests of the one about testing. Its folders are members of the workspace.
fn examples() -> Outcome {
    for entry in fs::read_dir("examples")? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_stem().ok_or("a file without a name")?.to_string_lossy();
        run(&format!("cargo run --locked --example {name}"))?;
    }
    run("cargo test --locked --example testing")
}

fn loom() -> Outcome {
    let line = "cargo test --locked";
    run_command(line, command(line).current_dir("loom-tests"))
}

fn mutants() -> Outcome {
    run("loom-tests/mutants.sh")
}

/// Uses the stable compiler with `RUSTC_BOOTSTRAP`, since the sanitizers are unstable.
fn asan() -> Outcome {
    let line = "cargo test --locked --target x86_64-unknown-linux-gnu --target-dir target/asan --test stress \
                --test linearizability --lib";
    let mut command = command(line);
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    run_command(line, &mut command)
}

fn rate() -> Outcome {
    run("cargo test --locked --release --test rate_on_the_real_clock")
}

/// What the members' tests need, and Debian's packages: servers, and tools for network namespaces. The tests fail if
/// one is missing.
const REAL_SERVERS: &[(&str, &str)] = &[
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nginx", "nginx"),
    ("pg_ctlcluster", "postgresql"),
    ("promtool", "prometheus"),
    ("redis-server", "redis-server"),
];

fn test_members() -> Outcome {
    for (program, package) in REAL_SERVERS {
        debian::require(program, package)?;
    }
    let line = "cargo test --locked --workspace --exclude connring";
    run_command(line, command(line).env("CONNRING_REAL_SERVERS", "required"))?;
    // The examples that start their servers themselves, and end.
    for (package, example) in [("dns", "records_change"), ("metrics", "prometheus"), ("postgres", "failover")] {
        run(&format!("cargo run --locked -p connring-{package} --example {example}"))?;
    }
    Ok(())
}

fn soak() -> Outcome {
    run("cargo run --locked -p connring-soak -- --minutes 0.2 --seed 1")
}

fn instructions() -> Outcome {
    debian::require("valgrind", "valgrind")?;
    debian::require("strace", "strace")?;
    run("benches/instructions.sh")
}

/// Uses the dev profile, which builds faster, because the times do not matter here.
fn benches() -> Outcome {
    run("cargo bench --locked --profile dev -- --test")
}

fn fuzz() -> Outcome {
    run("cargo check --locked --manifest-path fuzz/Cargo.toml")
}

/// Needs a clean working tree, because `cargo package` rejects uncommitted changes.
fn package() -> Outcome {
    run("cargo package --locked")
}

/// Not in CI, because cargo-deny takes minutes to build. The advisories are left out: their database is a repository of
/// git, which not every machine reaches. The workflow on GitHub checks them too.
fn deny() -> Outcome {
    if run("cargo deny --version").is_err() {
        run("cargo install --locked cargo-deny")?;
    }
    run("cargo deny --locked --workspace check bans licenses sources")
}
