//! Real servers on loopback, for the tests of the adapters: each in a process group and a folder of its own, which are
//! gone when the value is dropped.
//!
//! A test skips itself where the program is not installed, and says so. With [`REQUIRE`] set in the environment, as CI
//! sets it, a missing program fails the test instead.

#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]

mod dnsmasq;
mod nginx;
mod postgres;
mod redis;

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

pub use crate::dnsmasq::{Dnsmasq, dnsmasq};
pub use crate::nginx::nginx;
pub use crate::postgres::{postgres, postgres_standby, postgres_tls, postgres_with};
pub use crate::redis::{redis, redis_with};

/// Set in the environment, it makes a test fail whose server is not installed.
pub const REQUIRE: &str = "CONNRING_REAL_SERVERS";

/// How long a server may take to accept connections.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is asked whether it does.
const STEP: Duration = Duration::from_millis(20);

/// Finds an installed program.
///
/// # Panics
///
/// If it is missing and [`REQUIRE`] is set.
pub fn find(program: &str) -> Option<PathBuf> {
    find_also_in(program, &[])
}

/// The same, also in further folders.
fn find_also_in(program: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).map(Path::new);
    let folders = folders.chain(more.iter().map(PathBuf::as_path));
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        assert!(env::var_os(REQUIRE).is_none(), "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// A port on which no process listens, below the range from which Linux takes the local ports of clients: a client
/// that connects to the port of a dead server could get that port as its own, and so block it.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut ports =
        std::iter::repeat_with(|| 20_000 + (first - 20_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000);
    ports.by_ref().take(12_000).find(is_free).expect("a free port")
}

/// Makes the command line of a server for a folder and a port.
type MakeCommand = dyn Fn(&Path, u16) -> Command + Send + Sync;

/// A server: a process that can be killed, stopped and started again on the same port.
pub struct RealServer {
    name: &'static str,
    port: u16,
    folder: TempDir,
    command: Box<MakeCommand>,
    child: Option<Child>,
}

impl RealServer {
    /// Starts a server and waits until it accepts connections. `command` makes its command line for a folder and a
    /// port; the process must stay in the foreground.
    ///
    /// # Panics
    ///
    /// If it does not accept connections in 20 s. The message has its output.
    pub fn start(name: &'static str, command: impl Fn(&Path, u16) -> Command + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { name, port: free_port(), folder, command: Box::new(command), child: None };
        server.start_again();
        server
    }

    /// Starts it again, after [`kill`](Self::kill).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::create(self.log()).expect("a file for the log");
        let mut command = (self.command)(self.folder.path(), self.port);
        command.process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.name)));
        let began = Instant::now();
        while TcpStream::connect(self.socket_address()).is_err() {
            let has_ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if has_ended || began.elapsed() > PATIENCE {
                panic!("{} accepts no connection:\n{}", self.name, self.output());
            }
            sleep(STEP);
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Its folder, which is removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn socket_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its address, as a [`connring::Server`] takes it.
    ///
    /// [`connring::Server`]: https://docs.rs/connring
    pub fn address(&self) -> String {
        self.socket_address().to_string()
    }

    /// Kills it with SIGKILL: its kernel answers connects with a reset.
    pub fn kill(&mut self) {
        let children = self.children();
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        // What they hold in common, such as shared memory, would keep it from starting again.
        while children.iter().any(|&child| is_alive(child)) {
            sleep(Duration::from_millis(1));
        }
    }

    /// Stops it with SIGSTOP: its kernel accepts connections, and nothing answers.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a stopped one go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal to all its processes.
    pub fn signal(&self, signal: Signal) {
        // Before the group, since a child whose parent is dead is not found. One that has ended by itself is no error.
        for child in self.children() {
            let _ = kill_process(child, signal);
        }
        let group = self.child.as_ref().and_then(|child| Pid::from_raw(child.id() as i32));
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    }

    /// The children of its first process, some of which may have a group of their own. Empty where there is no `/proc`.
    fn children(&self) -> Vec<Pid> {
        let Some(parent) = self.child.as_ref().map(Child::id) else { return Vec::new() };
        let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
    }
}

/// Whether a process runs. One that has ended may remain as a zombie.
fn is_alive(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Debug for RealServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RealServer").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}
