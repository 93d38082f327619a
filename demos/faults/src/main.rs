//! Real servers with real faults under load: connring over its three servers, beside deadpool and bb8 with one pool for
//! each server, used in turn. README.md says how to read the tables.
//!
//! Ends with an error if connring gave a wrong answer, lost a permit, did not use a server again in time, stalled its
//! callers, or failed too many of them.

#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]

mod case;
mod fault;
mod http;
mod network;
mod peers;
mod pools;
mod postgres;
mod protocol;
mod redis;
mod relay;
mod report;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use connring_real_servers::REQUIRE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::fault::Fault;
use crate::http::Http;
use crate::peers::{Bb8, Deadpool};
use crate::pools::Connring;
use crate::postgres::Postgres;
use crate::protocol::{BoxError, Protocol};
use crate::redis::Redis;
use crate::report::head;

/// Real servers, real faults: connring beside deadpool and bb8
#[derive(Parser)]
struct Arguments {
    /// Default: all
    servers: Vec<Servers>,
    /// May be given more than once. Default: all
    #[arg(long = "fault")]
    faults: Vec<Fault>,
    /// Without deadpool and bb8
    #[arg(long)]
    alone: bool,
    /// How soon connring must use a server again, in seconds after the end of its fault
    #[arg(long, default_value_t = 2.0)]
    back_within: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Servers {
    Redis,
    Postgres,
    Nginx,
}

const SERVERS: usize = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let violations = match start(&arguments) {
        Ok(violations) => violations,
        Err(error) => vec![error.to_string()],
    };
    violations.iter().for_each(|violation| eprintln!("error: {violation}"));
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns what must not be.
fn start(arguments: &Arguments) -> Result<Vec<String>, BoxError> {
    let mut faults = arguments.faults.clone();
    if faults.is_empty() {
        faults = Fault::value_variants().to_vec();
    }
    if let Err(error) = network::enter() {
        // A fault that was asked for must not be left out.
        if env::var_os(REQUIRE).is_some() || arguments.faults.iter().any(|fault| fault.is_of_network()) {
            return Err(error);
        }
        eprintln!("without a network namespace, and the faults that need one: {error}");
        faults.retain(|fault| !fault.is_of_network());
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the tables ends the servers.
        tokio::select! {
            biased;
            _ = ctrl_c() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
            violations = tables(arguments, &faults) => violations,
        }
    })
}

async fn tables(arguments: &Arguments, faults: &[Fault]) -> Result<Vec<String>, BoxError> {
    let servers = match &arguments.servers[..] {
        [] => Servers::value_variants(),
        chosen => chosen,
    };
    let mut violations = Vec::new();
    for servers in servers {
        violations.extend(match servers {
            Servers::Redis => table::<Redis>(arguments, faults).await?,
            Servers::Postgres => table::<Postgres>(arguments, faults).await?,
            Servers::Nginx => table::<Http>(arguments, faults).await?,
        });
    }
    Ok(violations)
}

async fn table<P: Protocol>(arguments: &Arguments, faults: &[Fault]) -> Result<Vec<String>, BoxError> {
    let servers: Option<Vec<_>> = (0..SERVERS).map(|_| P::start()).collect();
    let Some(mut servers) = servers else { return Ok(Vec::new()) };
    for server in &servers {
        P::prepare(server).await?;
    }
    let mut violations = Vec::new();
    println!("\n### {}\n\n{}", P::NAME, head());
    for &fault in faults {
        let row = case::run::<P, Connring<P>>(fault, &mut servers).await?;
        println!("{row}");
        violations.extend(row.violations(Duration::from_secs_f64(arguments.back_within)));
        if !arguments.alone {
            println!("{}", case::run::<P, Deadpool<P>>(fault, &mut servers).await?);
            println!("{}", case::run::<P, Bb8<P>>(fault, &mut servers).await?);
        }
    }
    Ok(violations)
}
