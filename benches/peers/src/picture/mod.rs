//! Draws the pictures of the documentation from the JSON output of saved runs.

mod bars;
mod canvas;
mod dots;
mod lines;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

#[derive(clap::Args)]
pub struct Arguments {
    /// Output of scenarios: JSON objects are read, other lines are skipped
    #[arg(required = true, value_name = "FILE")]
    runs: Vec<PathBuf>,

    /// Output folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    to: PathBuf,
}

/// A saved run.
struct Run {
    json: Value,
}

/// One row of a run.
struct Figure {
    contestant: String,
    /// The value of the setting, if there is one.
    at: f64,
    median: f64,
}

impl Run {
    fn text<'a>(&'a self, pointer: &str) -> &'a str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown")
    }

    /// Describes the origin of the figures: rounds, processor, compiler and commit.
    fn origin(&self) -> String {
        let [cpu, rustc, commit] = ["/machine/cpu", "/rustc", "/commit"].map(|pointer| self.text(pointer));
        let rounds = self.json["rounds"].as_u64().unwrap_or(0);
        let rustc = rustc.split(" (").next().unwrap_or(rustc);
        format!("medians of {rounds} rounds; {cpu}; {rustc}; {commit}")
    }

    /// Returns all figures of a metric, with their values of `setting`.
    fn figures(&self, metric: &str, setting: &str) -> Vec<Figure> {
        let rows = self.json["rows"].as_array().map_or(&[][..], Vec::as_slice);
        let of_metric = rows.iter().filter(|row| row["metric"] == metric);
        of_metric
            .filter_map(|row| {
                let contestant = row["contestant"].as_str()?.to_owned();
                Some(Figure { contestant, at: row[setting].as_f64().unwrap_or(0.0), median: row["median"].as_f64()? })
            })
            .collect()
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&arguments.to)?;
    for file in &arguments.runs {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let run = Run { json: serde_json::from_str(line)? };
            draw(&run, &arguments.to)?;
        }
    }
    Ok(())
}

fn draw(run: &Run, folder: &Path) -> Result<(), Box<dyn Error>> {
    let path = |name: &str| folder.join(format!("{name}.svg"));
    match run.text("/scenario") {
        "hot" => bars::draw(
            &path("hot"),
            run,
            "One task acquires and releases: nanoseconds a cycle, synchronous pools first, then asynchronous ones",
            "cycle",
        ),
        "contended" => lines::draw(
            &path("contended"),
            run,
            &lines::Axes {
                title: "Threads that share one pool: millions of acquires and releases a second, in total",
                setting: "threads",
                metric: "throughput",
            },
            // Leaves out some variants of connring, to keep the picture readable.
            |contestant| !contestant.contains("async") && !contestant.contains("limit, servers: 1"),
        ),
        "ring" => lines::draw(
            &path("ring"),
            run,
            &lines::Axes {
                title: "One task, increasing number of servers: nanoseconds to acquire and release",
                setting: "servers",
                metric: "cycle",
            },
            |_| true,
        ),
        "redis" => {
            let axes = lines::Axes {
                title: "GET of 100 bytes on 16 connections: requests a second",
                setting: "tasks",
                metric: "throughput",
            };
            lines::draw(&path("redis_throughput"), run, &axes, |_| true)?;
            let axes = lines::Axes {
                title: "GET of 100 bytes on 16 connections: p99 of a request, in milliseconds",
                setting: "tasks",
                metric: "p99",
            };
            lines::draw(&path("redis_p99"), run, &axes, |_| true)
        }
        "handoff" => dots::draw(
            &path("handoff"),
            run,
            "400 tasks on 20 connections: how long an acquire waits, in milliseconds",
            &["p50", "p99", "max"],
        ),
        // The other scenarios have tables only.
        _ => Ok(()),
    }
}
