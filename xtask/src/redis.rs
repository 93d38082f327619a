//! What the failover step asks of a Redis server.

use std::process::Stdio;

use connring_real_servers::RealServer;

use crate::Outcome;
use crate::process::command;

/// Sets the number of clients that the server accepts. It refuses others with an error.
pub(crate) fn limit(server: &RealServer, clients: usize) -> Outcome {
    let answer = ask(server, &format!("CONFIG SET maxclients {clients}"))?;
    if answer.trim() == "OK" { Ok(()) } else { Err(format!("redis-server refuses the limit: {answer}").into()) }
}

/// Returns the number of commands that the server has processed since its start.
pub(crate) fn commands(server: &RealServer) -> Outcome<u64> {
    let stats = ask(server, "INFO stats")?;
    let count = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    let count = count.ok_or_else(|| format!("the statistics of redis-server have no count of commands: {stats}"))?;
    Ok(count.trim_end().parse()?)
}

fn ask(server: &RealServer, question: &str) -> Outcome<String> {
    let mut command = command(&format!("redis-cli -p {} {question}", server.port()));
    let output = command.stderr(Stdio::inherit()).output()?;
    Ok(String::from_utf8(output.stdout)?)
}
