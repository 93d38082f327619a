//! The pictures for the docs, from the JSON lines of saved runs.

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
    /// What scenarios printed: the lines that are JSON objects are read, the others are not
    #[arg(required = true, value_name = "FILE")]
    runs: Vec<PathBuf>,

    /// Where the pictures go
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    to: PathBuf,
}

/// A saved run.
struct Run {
    json: Value,
}

/// One line of a run's tables.
struct Figure {
    contestant: String,
    /// The setting, if it is one number.
    at: f64,
    median: f64,
}

impl Run {
    fn text<'a>(&'a self, pointer: &str) -> &'a str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown")
    }

    /// What the figures are worth: by which command, where, from what.
    fn origin(&self) -> String {
        let [cpu, rustc, commit] = ["/machine/cpu", "/rustc", "/commit"].map(|pointer| self.text(pointer));
        let rounds = self.json["rounds"].as_u64().unwrap_or(0);
        let rustc = rustc.split(" (").next().unwrap_or(rustc);
        format!("medians of {rounds} rounds; {cpu}; {rustc}; {commit}")
    }

    /// All of one metric, with the number of that setting.
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
            "One task acquires and releases: nanoseconds a cycle, first the sync ones, then the async ones",
            "cycle",
        ),
        "contended" => lines::draw(
            &path("contended"),
            run,
            &lines::Axes {
                title: "All threads at one pool: millions of acquires and releases a second, in all",
                setting: "threads",
                metric: "throughput",
            },
            // One way to ask connring is enough to see by.
            |contestant| !contestant.contains("async") && !contestant.contains("limit, servers: 1"),
        ),
        "ring" => lines::draw(
            &path("ring"),
            run,
            &lines::Axes {
                title: "One task, more and more servers: nanoseconds to acquire and release",
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
        // The others are tables.
        _ => Ok(()),
    }
}
