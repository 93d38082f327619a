//! Shows what requests see while servers fail: one connring pool, beside one deadpool pool per server.
//!
//! ```sh
//! cargo run --release -p connring-failover
//! ```
//!
//! Five TCP servers start in this process, on loopback. Tasks send them requests through a pool, 20 000 a second in
//! all, while the servers fail on a script that is printed as it goes:
//!
//! | when | event |
//! |---|---|
//! | 10 % | server B is killed: its port refuses, its connections are closed |
//! | 30 % | B is back |
//! | 40 % | server C hangs: its port neither accepts nor refuses, as behind a firewall that drops packets |
//! | 60 % | C is back |
//! | 70 % | server D is removed from the pool |
//! | 80 % | a fifth server, E, starts and is added to the pool |
//!
//! The load runs twice, with the same script: first through one connring pool, then through the baseline, one deadpool
//! pool per server and round robin over the pools. Once a second a table shows the servers and the time that acquires
//! took. At the end come a summary and a picture, `failover.svg`, with both runs side by side.
//!
//! Each answer is checked to be the answer to its own request, from the server that the connection belongs to. The
//! exit status is 1 if connring gave a wrong answer or failed an acquire; the baseline does not change it. A request
//! whose connection breaks in the middle fails with any pool. It is counted as an I/O error and sent again on another
//! connection, in both runs.
//!
//! # Latency
//!
//! Two times are recorded for each acquire: from the moment at which the request was due, and from the call. The first
//! includes every stall of the pool, the tasks and the machine. The second is the acquire alone. Both end when the
//! acquire returns a connection or an error. `--rps 0` sends without a pace: each task starts its next request when the
//! last one is answered.
//!
//! # Real servers
//!
//! Three Redis servers, which you stop and start yourself:
//!
//! ```sh
//! for port in 7001 7002 7003; do redis-server --port $port --save '' --daemonize yes; done
//! cargo run --release -p connring-failover -- --seconds 30 \
//!     --server 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003 --send 'PING\r\n' --expect '+PONG'
//! redis-cli -p 7002 shutdown; sleep 5; redis-server --port 7002 --save '' --daemonize yes   # in another terminal
//! ```
//!
//! The baseline does not run here: a second run would not see the same failures.
//!
//! An answer must start with the text of `--expect`, run to the end of that line, and nothing may follow it. `{id}` in
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
mod servers;
mod table;
mod trouble;
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

/// Runs connring and the baseline. Returns true if connring failed no acquire and gave no wrong answer.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let screen = Screen::new(args.json);
    let real = args.real_servers();
    let (own, addresses, protocol) = match real {
        Some((addresses, protocol)) => (None, addresses, protocol),
        None => {
            let own = servers::start(trouble::SERVERS).await?;
            let addresses = own.iter().map(OwnServer::address).collect();
            (Some(own), addresses, Protocol::of_own_servers())
        }
    };
    let at_first = if own.is_some() { trouble::AT_FIRST } else { addresses.len() };
    let roster = Roster::new(addresses);
    let at_first = &roster.addresses()[..at_first];
    screen.opening(args, &roster, at_first.len());

    let setup = Setup { args, screen: &screen, roster: &roster, protocol: &protocol };
    let (ours, own) = setup.run(OnePool::open(at_first)?, own).await?;
    // Without servers of its own, or after Ctrl-C, the program cannot repeat the failures.
    let baseline = match own {
        Some(own) => Some(setup.run(PoolPerServer::open(at_first)?, Some(own)).await?.0),
        None => None,
    };

    let runs: Vec<_> = [&ours].into_iter().chain(&baseline).collect();
    for run in &runs {
        screen.summary(args, run);
    }
    screen.line(&match picture::draw(&args.picture, args, &runs, &roster) {
        Ok(()) => format!("\nThe picture is {}.", args.picture.display()),
        Err(error) => format!("\nThe picture {} was not written: {error}", args.picture.display()),
    });
    let total = ours.timeline.total();
    if args.json {
        println!("{}", report::json(total, baseline.as_ref().map(|run| run.timeline.total())));
    }
    Ok(total.failed == 0 && total.wrong == 0)
}

/// The time now. Everything in this program reads it here.
#[allow(clippy::disallowed_methods, reason = "a user's program measures real time")]
fn now() -> Instant {
    Instant::now()
}
