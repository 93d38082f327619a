//! Measures connring against other pools, and against the floor of what the work must cost.

mod cycles;
mod floor;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Acquire and release a number of times and print nothing: for counting instructions.
    Cycles(cycles::Arguments),
}

fn main() {
    match Arguments::parse().scenario {
        Scenario::Cycles(arguments) => cycles::run(&arguments),
    }
}
