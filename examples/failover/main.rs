//! One pool over many servers, while the servers fail.
//!
//! ```sh
//! cargo run --release --example failover
//! ```
//!
//! Four TCP servers start in this process, on loopback. Many tasks send them requests through one pool, 20 000 a
//! second in all. Then there is trouble, on a script that is printed as it goes:
//!
//! | when | what |
//! |---|---|
//! | 10 % | server B is killed: its port refuses, its connections are closed |
//! | 30 % | B is back |
//! | 40 % | server C swallows: its port neither takes nor refuses a connection, as behind a firewall that drops |
//! | 60 % | C is back |
//! | 70 % | server D is taken out of the pool |
//! | 80 % | a fifth server, E, is started and put into the pool |
//!
//! Once a second a table shows how the pool sees each server, and what an acquire took. At the end come a summary and
//! a picture, `failover.svg`. What to look for: the requests go on at the same rate all the time, spread over the
//! servers that work; no acquire fails; no acquire waits for the server that swallows.
//!
//! Each answer is checked to be the answer to its own request, from the server that the connection belongs to. The
//! exit status is 1 if any was not, or if any acquire failed. A request that was under way on a connection when its
//! server was killed fails, whatever pool it came from: it is counted as an I/O error and sent again on another
//! connection.
//!
//! Latency is counted from the moment at which a request was due, not from when a task came round to it, so that a
//! stall shows in every request that it held up. The summary gives it from the call of `acquire` too: the difference is
//! not the pool's, but how late the machine and a busy task were. `--rps 0` sends without a pace: each task starts its
//! next request when the last one is answered.
//!
//! # Against real servers
//!
//! Three Redis servers, with which you make the trouble yourself:
//!
//! ```sh
//! for port in 7001 7002 7003; do redis-server --port $port --save '' --daemonize yes; done
//! cargo run --release --example failover -- --seconds 30 \
//!     --server 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003 --send 'PING\r\n' --expect '+PONG'
//! redis-cli -p 7002 shutdown; sleep 5; redis-server --port 7002 --save '' --daemonize yes   # elsewhere, meanwhile
//! ```
//!
//! An answer must start with the text of `--expect`, run to the end of that line, and nothing may follow it. `{id}` in
//! both texts stands for a number of ten digits, another for each request, so that an answer to somebody else's
//! request is found out: `--send 'ECHO {id}\r\n' --expect '$10\r\n{id}\r\n'`.

mod args;
mod load;
mod observe;
mod pace;
mod picture;
mod protocol;
mod record;
mod report;
mod servers;
mod table;
mod trouble;
mod watch;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use connring::{BuildError, Pool, TcpConnector};
use tokio::sync::mpsc;

use crate::args::Args;
use crate::load::Load;
use crate::observe::Observer;
use crate::protocol::Protocol;
use crate::record::{Recorder, Roster};
use crate::report::Screen;
use crate::servers::OwnServer;

/// The pool, as any service would set it up.
fn open_pool(servers: &[Arc<str>]) -> Result<Pool<TcpConnector>, BuildError> {
    Pool::builder(TcpConnector::new())
        .max_conns_per_server(32)
        .connect_timeout(Duration::from_millis(500))
        .backoff(Duration::from_millis(100), Duration::from_secs(1))
        .wait_timeout(Duration::from_secs(5))
        .servers(servers.iter().cloned())
        .build()
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the whole thing. True if no acquire failed and no answer was wrong.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    // Servers of our own, or those that were named.
    let (own, addresses, protocol) = match args.real_servers() {
        Some((addresses, protocol)) => (Vec::new(), addresses, protocol),
        None => {
            let own = servers::start(trouble::SERVERS).await?;
            let addresses = own.iter().map(OwnServer::address).collect();
            (own, addresses, Protocol::of_own_servers())
        }
    };
    let at_first = if own.is_empty() { addresses.len() } else { trouble::AT_FIRST };
    let pool = open_pool(&addresses[..at_first])?;
    let roster = Roster::new(addresses);
    let screen = Screen::new(args.json);
    screen.opening(args, &roster, at_first);

    // The load, and the trouble.
    let began = now();
    let recorder = Arc::new(Recorder::new(&roster));
    let load = Load::start(args, pool.clone(), protocol, roster.clone(), recorder.clone(), began);
    let total = Duration::from_secs(args.seconds);
    let (script, told) = if own.is_empty() {
        (None, None)
    } else {
        let (tell, told) = mpsc::channel(8);
        (Some(tokio::spawn(trouble::play(own, pool.clone(), total, tell))), Some(told))
    };
    let mut observer = Observer::new(screen, pool, roster, recorder, began);
    observer.watch(total, told).await;

    // First the load, which needs the servers to the last.
    let overdue = load.stop().await;
    if let Some(script) = script {
        script.abort();
        if let Ok(Err(error)) = script.await {
            return Err(format!("the script could not go on: {error}").into());
        }
    }
    Ok(observer.conclude(args, overdue).await)
}

/// The time now. Everything in this example reads it here.
#[allow(clippy::disallowed_methods, reason = "an example is a user's program: it measures real time")]
fn now() -> Instant {
    Instant::now()
}
