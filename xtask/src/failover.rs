//! The failover demo as a test: acquires must not fail while servers fail.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use connring_real_servers::RealServer;

use crate::judge::{Baseline, judge};
use crate::process::{Running, command, pause, run};
use crate::redis::{commands, limit};
use crate::{Outcome, debian, scratch};

const BUILD: &str = "cargo build --locked --release -p connring-failover";

/// The number of commands that shows that a server receives requests.
const LEAST_COMMANDS: u64 = 1_000;

/// The timeout until each server receives requests.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the demo with its own servers and the baseline.
pub(crate) fn own_servers() -> Outcome {
    let folder = scratch("failover")?;
    run(BUILD)?;
    let mut demo = start_demo(&folder, "--seconds 8", &[])?;
    conclude(&folder, &mut demo, Baseline::Runs)
}

/// The timeout until a server that is back receives requests again.
const RECOVERY: Duration = Duration::from_secs(2);

/// Runs the demo with three Redis servers. Kills one of them and restarts it, stops one and lets it continue, and
/// limits the clients of one below its connections.
pub(crate) fn redis_servers() -> Outcome {
    debian::require("redis-server", "redis-server")?;
    let folder = scratch("failover-redis")?;
    run(BUILD)?;
    let start = || connring_real_servers::redis().ok_or("redis-server is not installed");
    let mut servers = [start()?, start()?, start()?];
    let addresses: Vec<_> = servers.iter().map(RealServer::address).collect();
    let options = format!("--seconds 24 --server {}", addresses.join(" "));
    let protocol = ["--send", r"ECHO {id}\r\n", "--expect", r"$10\r\n{id}\r\n"];
    let mut demo = start_demo(&folder, &options, &protocol)?;

    for server in &servers {
        wait_for_requests(server, PATIENCE)?;
    }
    pause(Duration::from_secs(1))?;
    let victim = &mut servers[1];
    victim.kill();
    println!("killed the server on port {}", victim.port());
    pause(Duration::from_secs(2))?;
    victim.start_again();
    println!("restarted the server on port {}", victim.port());
    wait_for_requests(victim, RECOVERY)?;

    let [hung, restarted, limited] = &servers;
    hung.stop();
    println!("stopped the server on port {}", hung.port());
    pause(Duration::from_secs(4))?;
    hung.resume();
    println!("the server on port {} continues", hung.port());
    wait_for_requests(hung, RECOVERY)?;

    limit(limited, 4)?;
    println!("the server on port {} accepts 4 clients", limited.port());
    pause(Duration::from_secs(4))?;
    restarted.stop();
    pause(Duration::from_secs(1))?;
    restarted.resume();
    wait_for_requests(restarted, RECOVERY)?;

    conclude(&folder, &mut demo, Baseline::Absent)?;
    for server in &servers {
        let commands = commands(server)?;
        println!("port {}: {commands} commands", server.port());
        if commands < LEAST_COMMANDS {
            return Err(format!("the server on port {} received too few requests", server.port()).into());
        }
    }
    Ok(())
}

fn start_demo(folder: &Path, options: &str, protocol: &[&str]) -> Outcome<Running> {
    let line = format!("cargo run --locked --release -p connring-failover -- --json {options}");
    println!("$ {line} {}", protocol.join(" "));
    let mut command = command(&line);
    command.args(protocol).arg("--picture").arg(folder.join("failover.svg"));
    Running::start(command.stdout(File::create(folder.join("stdout"))?))
}

/// Waits until the demo ends, and checks its result.
fn conclude(folder: &Path, demo: &mut Running, baseline: Baseline) -> Outcome {
    let status = demo.wait()?;
    let output = fs::read_to_string(folder.join("stdout"))?;
    println!("{}", judge(&output, baseline)?);
    if !status.success() {
        return Err(format!("the demo failed: {status}").into());
    }
    let picture = fs::read_to_string(folder.join("failover.svg"))?;
    if picture.trim_end().ends_with("</svg>") { Ok(()) } else { Err("the picture is incomplete".into()) }
}

/// Waits until a server has received requests from now on.
fn wait_for_requests(server: &RealServer, patience: Duration) -> Outcome {
    let (began, before) = (Instant::now(), commands(server)?);
    while commands(server)? < before + LEAST_COMMANDS {
        if began.elapsed() > patience {
            return Err(format!("the server on port {} receives too few requests", server.port()).into());
        }
        pause(Duration::from_millis(50))?;
    }
    println!("the server on port {} receives requests after {:?}", server.port(), began.elapsed());
    Ok(())
}
