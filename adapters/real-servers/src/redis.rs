//! redis-server.

use std::process::Command;

use crate::{RealServer, find};

/// Starts a Redis without persistence. `None`, with a printed reason, if it is not installed.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn redis() -> Option<RealServer> {
    redis_with(&[])
}

/// The same with more arguments of `redis-server`.
///
/// # Panics
///
/// As [`RealServer::start`].
pub fn redis_with(arguments: &[&str]) -> Option<RealServer> {
    let program = find("redis-server")?;
    let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    Some(RealServer::start("redis-server", move |folder, port| {
        let mut command = Command::new(&program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]).arg(port.to_string());
        command.arg("--dir").arg(folder).args(&arguments);
        command
    }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn starts_answers_and_comes_back_after_a_kill() {
        let Some(mut redis) = super::redis() else { return };
        let ping = |address| {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.write_all(b"PING\r\n").ok()?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).ok().map(|()| answer)
        };
        let address = redis.socket_address();
        assert_eq!(ping(address).as_ref(), Some(b"+PONG\r\n"));
        redis.kill();
        assert_eq!(ping(address), None);
        redis.start_again();
        assert_eq!(ping(address).as_ref(), Some(b"+PONG\r\n"));
    }
}
