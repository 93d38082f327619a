//! Measures connring against other pools, and against the floor of what the work must cost.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

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
    /// One task, nobody else: what a hot cycle costs
    Hot(Options),
    /// 1, 2, 4 … threads up to twice the cores: connections a second
    Contended(Options),
    /// 400 tasks on 20 connections: how long they wait
    Handoff(Options),
    /// 1 to 10 000 servers, up and down: what a hot cycle costs
    Ring(Options),
    /// Four servers of which one swallows connections: how long callers wait
    Blackhole(Options),
    /// 100 to 100 000 waiting tasks: memory for each, and what a grant costs
    Crowd(Options),
    /// The rate that is set against the rate that is granted
    Rate(Options),
    /// GET of 100 bytes from a redis-server of its own
    Redis(Options),
    /// Bytes for each server, idle connection, queue slot and waiter
    Memory(Options),
    /// Servers that change state, refuse, come and go, 10 to 10 000: what that costs
    States(Options),
    /// Draw the pictures of saved runs
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
        Command::Plot(arguments) => picture::run(&arguments)?,
    }
    Ok(())
}
