//! Programs of Debian packages.

use std::process::Command;

use rustix::process::geteuid;

use crate::Outcome;
use crate::process::{command, run, run_command};

/// Makes sure that a program is there: installs its package if it is missing and we are root.
///
/// # Errors
///
/// When the program is still missing.
pub(crate) fn require(program: &str, package: &str) -> Outcome {
    if !is_there(program) {
        if !geteuid().is_root() {
            return Err(format!("{program} is missing: install Debian's package {package}").into());
        }
        run("apt-get update -q")?;
        // Without a terminal of its own, which a background process group could not set up.
        let line = format!("apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 {package}");
        // At RUNLEVEL 1, the package's service does not start.
        run_command(&line, command(&line).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1"))?;
    }
    run(&format!("{program} --version"))
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
