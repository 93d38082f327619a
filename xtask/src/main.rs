//! Runs the steps of CI, one or all, on a developer's machine or in CI.
//!
//! ```sh
//! cargo xtask list        # list the steps
//! cargo xtask clippy      # run one step or more
//! cargo xtask ci          # run all steps until one fails
//! ```

#![allow(clippy::disallowed_methods, reason = "the steps run in real time")]

mod debian;
mod failover;
mod judge;
mod process;
mod readme;
mod redis;
mod steps;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::process::Interrupted;
use crate::steps::{OTHER_STEPS, STEPS, Step};

/// The result of a step or a part of it.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let chosen = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            list();
            return ExitCode::SUCCESS;
        }
        ["ci"] => Ok(STEPS.iter().collect()),
        [] => Err("no step given".to_owned()),
        ref names => names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>(),
    };
    match chosen {
        Ok(steps) => run_all(&steps),
        Err(message) => {
            eprintln!("error: {message}\n\nUsage: cargo xtask list | ci | STEP...");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for step in STEPS.iter().chain(OTHER_STEPS) {
        println!("{:<20} {}", step.name, step.about);
    }
}

fn find(name: &str) -> Result<&'static Step, String> {
    STEPS
        .iter()
        .chain(OTHER_STEPS)
        .find(|step| step.name == name)
        .ok_or_else(|| format!("no step {name:?}; `cargo xtask list` shows them"))
}

/// Runs the steps in order until one fails, and prints a summary.
fn run_all(steps: &[&Step]) -> ExitCode {
    if let Err(error) = prepare() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let mut report = Vec::new();
    for step in steps {
        println!("\n=== {}: {}", step.name, step.about);
        let step_began = Instant::now();
        let outcome = (step.run)();
        let time = seconds(step_began.elapsed());
        match outcome {
            Ok(()) => {
                println!("=== {} passed in {time}", step.name);
                report.push(format!("passed  {:<20} {time:>8}", step.name));
            }
            Err(error) => {
                eprintln!("error: {error}");
                report.push(format!("FAILED  {:<20} {time:>8}", step.name));
                println!("\n{}", report.join("\n"));
                return if error.is::<Interrupted>() { ExitCode::from(130) } else { ExitCode::FAILURE };
            }
        }
    }
    println!("\n{}", report.join("\n"));
    println!("All {} steps passed in {}.", report.len(), seconds(began.elapsed()));
    ExitCode::SUCCESS
}

/// Changes to the root of the workspace and handles interrupts.
fn prepare() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask is not in a workspace")?;
    env::set_current_dir(root)?;
    process::listen_for_interrupts()
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Makes an empty folder for a step's files, in the target directory. The files stay until the step runs again.
fn scratch(step: &str) -> Outcome<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let folder = env::current_dir()?.join(target).join("xtask").join(step);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
