//! Compares connring with other pools, and with the floor: a lower bound on the cost of the work.

#![allow(clippy::disallowed_methods, reason = "benchmarks read the real clock")]

mod allocator;
mod contestants;
mod floor;
mod picture;
mod report;
mod scenarios;
mod table;

use std::error::Error;

use clap::{Parser, Subcommand};

use crate::report::Options;

#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Time of an acquire and a release, by one task alone
    Hot(Options),
    /// Throughput of one pool, with 1, 2, 4 … threads up to twice the cores
    Contended(Options),
    /// Waiting times of 400 tasks on 20 connections
    Handoff(Options),
    /// Time of an acquire and a release over 1 to 10 000 servers, up or down
    Ring(Options),
    /// Latency of acquires while one of four servers answers no connect attempt
    Blackhole(Options),
    /// Memory of a waiter and cost of a grant, with 100 to 100 000 waiters
    Crowd(Options),
    /// Accuracy of the rate limit: the granted rate relative to the configured one
    Rate(Options),
    /// Throughput and latency of GETs of 100 bytes from a local redis-server
    Redis(Options),
    /// Bytes of a server, an idle connection, a queue slot and a waiter
    Memory(Options),
    /// Cost of state changes, refusals and registrations, with 10 to 10 000 servers
    States(Options),
    /// What the pool does while servers fail, against its bars
    Faults(Options),
    /// What keeps a pool fit for service: idle connections, draining, weights, totals; against its bars
    Service(Options),
    /// Draw pictures from saved runs
    Plot(picture::Arguments),
}

fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse().command {
        Command::Hot(options) => scenarios::hot::run(&options),
        Command::Contended(options) => scenarios::contended::run(&options),
        Command::Handoff(options) => scenarios::handoff::run(&options),
        Command::Ring(options) => scenarios::ring::run(&options),
        Command::Blackhole(options) => scenarios::blackhole::run(&options),
        Command::Crowd(options) => scenarios::crowd::run(&options),
        Command::Rate(options) => scenarios::rate::run(&options),
        Command::Redis(options) => scenarios::redis::run(&options),
        Command::Memory(options) => scenarios::memory::run(&options),
        Command::States(options) => scenarios::states::run(&options),
        Command::Faults(options) => scenarios::faults::run(&options),
        Command::Service(options) => scenarios::service::run(&options),
        Command::Plot(arguments) => picture::run(&arguments)?,
    }
    Ok(())
}
