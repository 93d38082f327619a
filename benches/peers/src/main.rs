//! Measures connring against other pools, and against the floor of what the work must cost.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod contestants;
mod cycles;
mod floor;
mod report;
mod scenarios;
mod table;

use clap::{Parser, Subcommand};

use crate::report::Options;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Acquire and release a number of times and print nothing: for counting instructions
    Cycles(cycles::Arguments),
    /// One task, nobody else: what a hot cycle costs
    Hot(Options),
}

fn main() {
    match Arguments::parse().command {
        Command::Cycles(arguments) => cycles::run(&arguments),
        Command::Hot(options) => scenarios::hot::run(&options),
    }
}
