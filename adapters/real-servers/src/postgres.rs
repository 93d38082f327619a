//! postgres.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use rustix::process::geteuid;

use crate::{PATIENCE, RealServer, find_also_in};

/// Starts a PostgreSQL that trusts the user `postgres`, without fsync, and waits until it serves. `None`, with a
/// printed reason, if it is not installed.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn postgres() -> Option<RealServer> {
    postgres_with(&[])
}

/// The same with settings, as `"max_connections=5"`.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn postgres_with(settings: &[&str]) -> Option<RealServer> {
    start(settings, initdb)
}

/// The same with TLS, by a certificate and its key as PEM. It also serves clients without TLS.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn postgres_tls(certificate: &str, key: &str) -> Option<RealServer> {
    let files = [("cert.pem", certificate.to_owned()), ("key.pem", key.to_owned())];
    start(&["ssl=on", "ssl_cert_file=../cert.pem", "ssl_key_file=../key.pem"], move |programs, data| {
        for (name, text) in &files {
            let file = data.with_file_name(name);
            fs::write(&file, text).expect("a file");
            // It refuses a key that others may read.
            fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a file of its own");
            give_to_user(&file);
        }
        initdb(programs, data)
    })
}

fn initdb(programs: &Path, data: &Path) -> Command {
    let mut initdb = Command::new(programs.join("initdb"));
    initdb.args(["-U", "postgres", "--auth=trust", "--no-sync", "--no-instructions", "--wal-segsize=1"]);
    initdb.args(["--locale=C", "--encoding=UTF8", "-D"]).arg(data);
    initdb
}

/// Starts a hot standby of a server, which `select pg_promote()` makes a primary. The settings should include those of
/// the primary.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn postgres_standby(primary: &RealServer, settings: &[&str]) -> Option<RealServer> {
    let port = primary.port().to_string();
    start(settings, move |programs, data| {
        let mut backup = Command::new(programs.join("pg_basebackup"));
        backup
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-R", "-c", "fast", "--no-sync", "-D"])
            .arg(data);
        backup
    })
}

/// Starts a server whose data `prepare` makes, at the first start only.
fn start(settings: &[&str], prepare: impl Fn(&Path, &Path) -> Command + Send + Sync + 'static) -> Option<RealServer> {
    // The program itself, since a link to it may stand alone.
    let program = fs::canonicalize(find_also_in("postgres", &debian_folders())?).expect("a program");
    let programs = program.parent()?.to_owned();
    let settings: Vec<_> = settings.iter().map(|&setting| setting.to_owned()).collect();
    let (is_ready, as_user) = (programs.join("pg_isready"), user());
    let server = RealServer::start("postgres", move |folder, port| {
        let data = folder.join("data");
        // It refuses to run as root.
        let set_user = |command: &mut Command| {
            if let Some((user, group)) = as_user {
                command.uid(user).gid(group);
            }
        };
        if !data.exists() {
            give_to_user(folder);
            let mut prepare = prepare(&programs, &data);
            set_user(&mut prepare);
            let output = prepare.current_dir(folder).output().expect("the program runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let mut command = Command::new(programs.join("postgres"));
        set_user(&mut command);
        command.current_dir(folder).arg("-D").arg(data).arg("-p").arg(port.to_string());
        for setting in SETTINGS.iter().copied().chain(settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        command.arg("-k").arg(folder);
        command
    });
    let began = Instant::now();
    while !serves(&is_ready, server.port()) {
        assert!(began.elapsed() < PATIENCE, "postgres does not serve:\n{}", server.output());
        sleep(crate::STEP);
    }
    Some(server)
}

/// Gives a file or a folder to the user as whom the server runs.
fn give_to_user(path: &Path) {
    if let Some((user, group)) = user() {
        chown(path, Some(user), Some(group)).expect("a user");
    }
}

/// Small and quick.
const SETTINGS: &[&str] =
    &["fsync=off", "shared_buffers=4MB", "listen_addresses=127.0.0.1", "autovacuum=off", "log_min_messages=warning"];

/// Whether it lets sessions in: it accepts connections before.
fn serves(is_ready: &Path, port: u16) -> bool {
    let mut command = Command::new(is_ready);
    command.args(["-q", "-h", "127.0.0.1", "-p"]).arg(port.to_string()).stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Where Debian has the programs, of the newest version first.
fn debian_folders() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// The user `postgres` and its group, if this process runs as root.
fn user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok().filter(|_| geteuid().is_root())?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut numbers = line.split(':').skip(2).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn serves_after_a_kill_and_a_start() {
        let Some(mut server) = postgres() else { return };
        let accepts = |server: &RealServer| TcpStream::connect(server.socket_address()).is_ok();
        assert!(accepts(&server));
        server.kill();
        assert!(!accepts(&server));
        server.start_again();
        assert!(accepts(&server));
    }
}
