//! Child processes, which are killed when their step ends.

use std::error::Error;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::Outcome;

/// The interval at which a wait checks for its end and for Ctrl-C.
const POLL: Duration = Duration::from_millis(20);

/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The error after Ctrl-C or a similar signal.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl Error for Interrupted {}

/// Makes Ctrl-C and similar signals end the step with an error, so that its processes are killed.
pub(crate) fn listen_for_interrupts() -> Outcome {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(())
}

/// Sleeps for `duration`.
///
/// # Errors
///
/// Returns an error immediately on Ctrl-C.
pub(crate) fn pause(duration: Duration) -> Outcome {
    let began = Instant::now();
    loop {
        if INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Interrupted.into());
        }
        let left = duration.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(POLL));
    }
}

/// A running child process in its own process group. Dropping it kills the whole group.
pub(crate) struct Running {
    child: Child,
    group: Pid,
    has_ended: bool,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).stdin(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("{program} does not start: {error}"))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("a process without a valid id")?;
        Ok(Self { child, group, has_ended: false })
    }

    /// Waits until the child ends.
    ///
    /// # Errors
    ///
    /// Returns an error on Ctrl-C.
    pub(crate) fn wait(&mut self) -> Outcome<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.has_ended = true;
                return Ok(status);
            }
            pause(POLL)?;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let _ = kill_process_group(self.group, Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        // Descendants may outlive the child. The group id stays valid while one of them is left.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Makes a command from a line without quotes. `cargo` stands for the cargo that runs this program.
pub(crate) fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command has a first word");
    let cargo = std::env::var_os("CARGO").filter(|_| program == "cargo");
    let mut command = Command::new(cargo.unwrap_or_else(|| program.into()));
    command.args(words);
    command
}

/// Prints and runs a command line.
///
/// # Errors
///
/// Returns an error if the command fails.
pub(crate) fn run(line: &str) -> Outcome {
    run_command(line, &mut command(line))
}

/// Prints `line` and runs `command`, which may have further settings.
pub(crate) fn run_command(line: &str, command: &mut Command) -> Outcome {
    println!("$ {line}");
    let status = Running::start(command)?.wait()?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn dropping_child_kills_its_descendants() {
        let mut shell = Command::new("sh");
        // The shell ends on SIGTERM, its child does not.
        shell.args(["-c", "(trap '' TERM; echo; sleep 60; sleep 60) & wait"]).stdout(Stdio::piped());
        let mut running = Running::start(&mut shell).unwrap();
        let mut stdout = running.child.stdout.take().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        drop(running);
        // The pipe ends when no process has it open any more.
        let began = Instant::now();
        assert_eq!(stdout.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert!(began.elapsed() < Duration::from_secs(30), "the child ran to its end");
    }

    #[test]
    fn failed_command_is_an_error() {
        run("true").unwrap();
        assert_eq!(run("false").unwrap_err().to_string(), "`false` failed: exit status: 1");
        assert!(run("no-such-program").unwrap_err().to_string().starts_with("no-such-program does not start"));
    }
}
