//! Programs from Debian packages.

use std::env;
use std::path::Path;

use rustix::process::geteuid;

use crate::Outcome;
use crate::process::{command, run, run_command};

/// Makes sure that a program is installed. Installs its package if the program is missing and this process runs as
/// root.
///
/// # Errors
///
/// Returns an error if the program is still missing.
pub(crate) fn require(program: &str, package: &str) -> Outcome {
    if !is_installed(program) {
        if !geteuid().is_root() {
            return Err(format!("{program} is missing: install Debian's package {package}").into());
        }
        run("apt-get update -q")?;
        // Without a pseudo-terminal, which a background process group cannot set up.
        let line = format!("apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 {package}");
        // RUNLEVEL 1 keeps the package's service from starting.
        run_command(&line, command(&line).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1"))?;
    }
    if is_installed(program) {
        Ok(())
    } else {
        Err(format!("{package} was installed, but {program} is missing").into())
    }
}

/// Programs of servers are not in the path of each user.
fn is_installed(program: &str) -> bool {
    let path = env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin"]).any(|folder| Path::new(folder).join(program).is_file())
}
