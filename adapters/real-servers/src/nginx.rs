//! nginx.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::{RealServer, find};

/// Starts an nginx with these directives in its one `server` block. `None`, with a printed reason, if it is not
/// installed.
///
/// It logs one line for each request to `access.log` in its [folder](RealServer::folder): the number of the connection,
/// the number of the request on it, and the request line.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn nginx(directives: &str) -> Option<RealServer> {
    let program = find("nginx")?;
    let directives = directives.to_owned();
    Some(RealServer::start("nginx", move |folder, port| {
        let at = |name: &str| folder.join(name).display().to_string();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", at(kind)))
            .concat();
        let config = format!(
            "daemon off; worker_processes 1; pid {pid}; error_log stderr;
             events {{ worker_connections 4096; }}
             http {{
                 {paths}
                 log_format uses '$connection $connection_requests $request';
                 access_log {log} uses;
                 server {{ listen 127.0.0.1:{port}; {directives} }}
             }}",
            pid = at("pid"),
            log = at("access.log"),
        );
        fs::write(folder.join("nginx.conf"), config).expect("a configuration is written");
        // Started by root, its worker is another user.
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("the folder is ours");
        let mut command = Command::new(&program);
        command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        command
    }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn starts_answers_and_comes_back_after_a_kill() {
        let Some(mut nginx) = super::nginx("location / { return 200 $uri; }") else { return };
        let get = |address, path| {
            let mut stream = TcpStream::connect(address).ok()?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.rsplit("\r\n").next().map(str::to_owned)
        };
        let address = nginx.socket_address();
        assert_eq!(get(address, "/a").as_deref(), Some("/a"));
        nginx.kill();
        assert_eq!(get(address, "/b"), None);
        nginx.start_again();
        assert_eq!(get(address, "/c").as_deref(), Some("/c"));
    }
}
