//! A demo of failover: sends requests while servers fail, through one connring pool and through one deadpool pool per
//! server.
//!
//! ```sh
//! cargo run --release -p connring-failover
//! ```
//!
//! Five TCP servers start in this process, on loopback. Tasks send requests through a pool, 20 000 a second in total,
//! while a script makes the servers fail:
//!
//! | time | event |
//! |---|---|
//! | 10 % | server B is killed: its port refuses, its connections are closed |
//! | 30 % | server B restarts |
//! | 40 % | server C hangs: its port neither accepts nor refuses, like behind a firewall that drops packets |
//! | 60 % | server C restarts |
//! | 70 % | server D is removed from the pool |
//! | 80 % | a fifth server, E, starts and is added to the pool |
//!
//! The load runs twice with the same script. The first run uses one connring pool. The second run is the baseline: one
//! deadpool pool per server, with round robin over the pools. Every second a table shows the servers and the times of
//! acquires. At the end the program prints a summary and draws a picture of both runs, `failover.svg`.
//!
//! Each answer is checked: it must match its request and come from the server of the connection. The exit status is 1
//! if an answer was wrong or an acquire failed in the run of connring; the baseline does not affect it. A request whose
//! connection breaks fails with any pool. In both runs it counts as an I/O error and is sent again on another
//! connection.
//!
//! # Latency
//!
//! Each acquire has two times: one from the moment at which its request was due, one from the call. The first includes
//! all stalls of the pool, the tasks and the machine. The second is that of the call alone. Both end when the acquire
//! returns a connection or an error. `--rps 0` sends without a pace: each task sends its next request as soon as the
//! last one is answered.
//!
//! # Real servers
//!
//! An example with three Redis servers, which you stop and start yourself:
//!
//! ```sh
//! for port in 7001 7002 7003; do redis-server --port $port --save '' --daemonize yes; done
//! cargo run --release -p connring-failover -- --seconds 30 \
//!     --server 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003 --send 'PING\r\n' --expect '+PONG'
//! redis-cli -p 7002 shutdown; sleep 5; redis-server --port 7002 --save '' --daemonize yes   # in another terminal
//! ```
//!
//! The baseline does not run with real servers, because a second run would not have the same failures.
//!
//! An answer must start with the text of `--expect` and end at the end of that line; no bytes may follow. `{id}` in
//! both texts is replaced by a ten-digit number, a new one for each request, so that an answer to another request is
//! detected: `--send 'ECHO {id}\r\n' --expect '$10\r\n{id}\r\n'`.

mod args;
mod load;
mod observe;
mod pace;
mod picture;
mod pools;
mod protocol;
mod record;
mod report;
mod run;
mod script;
mod servers;
mod table;
mod watch;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::args::Args;
use crate::pools::{OnePool, PoolPerServer};
use crate::protocol::Protocol;
use crate::record::Roster;
use crate::report::Screen;
use crate::run::Setup;
use crate::servers::OwnServer;

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

/// Runs connring and the baseline. Returns true if the run of connring had no failed acquire and no wrong answer.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let screen = Screen::new(args.json);
    let real = args.real_servers();
    let (own, addresses, protocol) = match real {
        Some((addresses, protocol)) => (None, addresses, protocol),
        None => {
            let own = servers::start(script::SERVERS).await?;
            let addresses = own.iter().map(OwnServer::address).collect();
            (Some(own), addresses, Protocol::of_own_servers())
        }
    };
    let initial = if own.is_some() { script::INITIAL_SERVERS } else { addresses.len() };
    let roster = Roster::new(addresses);
    let initial = &roster.addresses()[..initial];
    screen.opening(args, &roster, initial.len());

    let setup = Setup { args, screen: &screen, roster: &roster, protocol: &protocol };
    let (ours, own) = setup.run(OnePool::open(initial)?, own).await?;
    // With real servers, or after Ctrl-C, the program cannot repeat the failures.
    let baseline = match own {
        Some(own) => Some(setup.run(PoolPerServer::open(initial)?, Some(own)).await?.0),
        None => None,
    };

    let runs: Vec<_> = [&ours].into_iter().chain(&baseline).collect();
    for run in &runs {
        screen.summary(args, run);
    }
    screen.line(&match picture::draw(&args.picture, args, &runs, &roster) {
        Ok(()) => format!("\nPicture: {}", args.picture.display()),
        Err(error) => format!("\nThe picture {} could not be written: {error}", args.picture.display()),
    });
    let total = ours.timeline.total();
    if args.json {
        println!("{}", report::json(total, baseline.as_ref().map(|run| run.timeline.total())));
    }
    Ok(total.failed == 0 && total.wrong == 0)
}

/// Returns the current time, for all of this program.
#[allow(clippy::disallowed_methods, reason = "a user's program measures real time")]
fn now() -> Instant {
    Instant::now()
}
