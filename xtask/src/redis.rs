//! Redis servers on loopback.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::process::{Running, command, pause};

/// The timeout for a server to start or to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running redis-server. Dropping it kills the process.
pub(crate) struct Redis {
    port: u16,
    process: Running,
}

/// Returns ports on which no process listens, below the ephemeral range of Linux. Within that range, a client that
/// connects to the port of a dead server can get that port as its own local port, and so block it.
pub(crate) fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    // Concurrent runs start at different ports.
    let first = 20_000 + u16::try_from(std::process::id() % 10_000)?;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<_> = (first..32_000).filter(is_free).take(count).collect();
    if ports.len() == count { Ok(ports) } else { Err("not enough free ports".into()) }
}

impl Redis {
    /// Starts a server without persistence and waits until it answers. Writes its log to `folder`.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not answer.
    pub(crate) fn start(folder: &Path, port: u16) -> Outcome<Self> {
        let log = folder.join(format!("redis-{port}.log"));
        let output = File::create(&log)?;
        let line = format!("redis-server --port {port} --bind 127.0.0.1 --appendonly no");
        let mut command = command(&line);
        command.args(["--save", "", "--dir"]).arg(folder).stdout(output.try_clone()?).stderr(output);
        let mut redis = Self { port, process: Running::start(&mut command)? };
        let began = Instant::now();
        while redis.ask("PING").ok().as_deref() != Some("PONG") {
            if redis.process.ended()?.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(&log)?;
                return Err(format!("redis-server on port {port} does not answer:\n{log}").into());
            }
            pause(Duration::from_millis(50))?;
        }
        Ok(redis)
    }

    /// Kills the server with SIGKILL, like a crash.
    pub(crate) fn kill(self) -> Outcome {
        self.process.kill()
    }

    /// Stops the server with SIGSTOP: the kernel accepts connections for it, and no request is answered.
    pub(crate) fn stop(&self) -> Outcome {
        self.process.stop()
    }

    /// Lets a stopped server continue.
    pub(crate) fn resume(&self) -> Outcome {
        self.process.resume()
    }

    /// Sets the number of clients that the server accepts. It refuses others with an error.
    pub(crate) fn limit(&self, clients: usize) -> Outcome {
        let answer = self.ask(&format!("CONFIG SET maxclients {clients}"))?;
        if answer == "OK" { Ok(()) } else { Err(format!("redis-server refuses the limit: {answer}").into()) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the number of commands that the server has processed since its start.
    pub(crate) fn commands(&self) -> Outcome<u64> {
        let stats = self.ask("INFO stats")?;
        Ok(total_commands(&stats)
            .ok_or_else(|| format!("the statistics of redis-server have no count of commands: {stats}"))?)
    }

    /// Sends a command and returns the answer, which is a simple or a bulk string.
    fn ask(&self, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        read_answer(BufReader::new(stream))
    }
}

fn read_answer(mut stream: impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    if let Some(simple) = line.strip_prefix('+') {
        return Ok(simple.to_owned());
    }
    let length = line.strip_prefix('$').and_then(|length| length.parse().ok());
    let length = length.ok_or_else(|| io::Error::other(format!("redis-server answers {line:?}")))?;
    let mut bulk = String::new();
    stream.take(length).read_to_string(&mut bulk)?;
    Ok(bulk)
}

fn total_commands(stats: &str) -> Option<u64> {
    stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"))?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_simple_and_bulk_strings() {
        assert_eq!(read_answer(&b"+PONG\r\n"[..]).unwrap(), "PONG");
        assert_eq!(read_answer(&b"$7\r\na:1\r\nb:\r\n"[..]).unwrap(), "a:1\r\nb:");
        assert!(read_answer(&b"-LOADING\r\n"[..]).is_err());
        assert!(read_answer(&b""[..]).is_err());
    }

    #[test]
    fn finds_the_number_of_commands() {
        let stats = "# Stats\r\ntotal_connections_received:5\r\ntotal_commands_processed:1234\r\ninstantaneous:0\r\n";
        assert_eq!(total_commands(stats), Some(1_234));
        assert_eq!(total_commands("# Stats\r\n"), None);
    }
}
