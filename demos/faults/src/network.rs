//! A network namespace of its own for the whole program, and rules for the packets in it.
//!
//! The namespace has no name, so that it is gone with the last process in it, and its rules with it.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::protocol::BoxError;

/// Set in the environment of the program in the namespace.
const INSIDE: &str = "CONNRING_FAULTS_INSIDE";

/// The most connections there that wait until a server accepts them. By default a PostgreSQL would be busy for seconds
/// with those of a full backlog.
pub(crate) const BACKLOG: usize = 64;

/// Starts this program again in a new network namespace, unless it is in one already.
///
/// # Errors
///
/// Why there can be none.
pub(crate) fn enter() -> Result<(), BoxError> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let script = format!("ip link set lo up && echo {BACKLOG} >/proc/sys/net/core/somaxconn && exec \"$0\" \"$@\"");
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]);
        command
    };
    run(unshare().args(["iptables", "-w", "-S"]))?;
    Err(unshare().arg(env::current_exe()?).args(env::args_os().skip(1)).env(INSIDE, "1").exec().into())
}

/// Rules of iptables, removed when dropped.
pub(crate) struct Rules(Vec<String>);

impl Rules {
    /// Answers each packet to a port with a reset to its sender, so that a connection dies when it is used.
    pub(crate) fn reset_busy(port: u16) -> Result<Self, BoxError> {
        Self::add(vec![format!("--dport {port} ! --syn -j REJECT --reject-with tcp-reset")])
    }

    /// No connection to a port is opened any more. Open ones go on.
    pub(crate) fn drop_syns(port: u16) -> Result<Self, BoxError> {
        Self::add(vec![format!("--dport {port} --syn -j DROP")])
    }

    /// No packet gets to a port or from it.
    pub(crate) fn drop_all(port: u16) -> Result<Self, BoxError> {
        Self::add(vec![format!("--dport {port} -j DROP"), format!("--sport {port} -j DROP")])
    }

    fn add(rules: Vec<String>) -> Result<Self, BoxError> {
        let rules = Self(rules);
        rules.0.iter().try_for_each(|rule| change("-A", rule))?;
        Ok(rules)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        for rule in &self.0 {
            // One that could not be added is no error.
            let _ = change("-D", rule);
        }
    }
}

fn change(how: &str, rule: &str) -> Result<(), BoxError> {
    run(Command::new("iptables").args(["-w", how, "INPUT", "-p", "tcp"]).args(rule.split(' ')))
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<(), BoxError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
