//! How contestants are measured against each other and what is told of it: a table for people, and as the last line of
//! the output one JSON object for programs.
//!
//! These machines are noisy and noise comes in stretches. So the contestants take turns, a round each, and a ratio is
//! the median over the rounds of the ratios within a round.

use std::thread;

use serde_json::{Value, json};

use crate::table::Table;

/// What all scenarios are told on the command line.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// Print the JSON object alone
    #[arg(long)]
    pub json: bool,

    /// How often each contestant is measured
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// What tells a row from the others of the same contestant, such as the number of threads.
pub type Setting = Vec<(&'static str, u64)>;

/// What one number says, and its unit.
#[derive(Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
}

/// One that is measured, once a round: a number for each metric.
pub struct Entrant<'a> {
    pub contestant: String,
    pub setting: Setting,
    /// The contestant that its ratio refers to, at the same setting.
    pub against: &'static str,
    pub measure: Box<dyn FnMut() -> Vec<f64> + 'a>,
}

/// The numbers of one contestant at one setting, one a round.
pub struct Row {
    pub contestant: String,
    pub setting: Setting,
    pub metric: Metric,
    pub against: &'static str,
    pub values: Vec<f64>,
}

/// What a figure must reach.
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

pub struct Report {
    scenario: &'static str,
    options: Options,
    rows: Vec<Row>,
    /// What was measured, what it is, and what it must reach.
    bars: Vec<(String, f64, Bar)>,
}

impl Report {
    pub fn new(scenario: &'static str, options: &Options) -> Self {
        Self { scenario, options: options.clone(), rows: Vec::new(), bars: Vec::new() }
    }

    /// Measures all entrants in each round, each round beginning with another one, after a round that does not count.
    /// They may be measured in several calls where not all can be there at once.
    pub fn measure(&mut self, metrics: &[Metric], mut entrants: Vec<Entrant<'_>>) {
        let first = self.rows.len();
        for entrant in &entrants {
            for &metric in metrics {
                let (contestant, setting) = (entrant.contestant.clone(), entrant.setting.clone());
                self.push(Row { contestant, setting, metric, against: entrant.against, values: Vec::new() });
            }
        }
        for round in 0..=self.options.rounds as usize {
            eprintln!("{}: round {round} of {}", self.scenario, self.options.rounds);
            for turn in 0..entrants.len() {
                let index = (round + turn) % entrants.len();
                let values = (entrants[index].measure)();
                assert_eq!(values.len(), metrics.len(), "a number for each metric");
                if round > 0 {
                    let rows = &mut self.rows[first + index * metrics.len()..][..metrics.len()];
                    rows.iter_mut().zip(values).for_each(|(row, value)| row.values.push(value));
                }
            }
        }
    }

    /// Adds a row that was measured in another way.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn row(&self, contestant: &str, metric: &str, setting: &[(&'static str, u64)]) -> Option<&Row> {
        let wanted = |row: &&Row| row.contestant == contestant && row.metric.name == metric && row.setting == setting;
        self.rows.iter().find(wanted)
    }

    /// Says what a figure is and what it must reach.
    pub fn bar(&mut self, figure: impl Into<String>, value: f64, bar: Bar) {
        self.bars.push((figure.into(), value, bar));
    }

    /// The median ratio of a row to the one that it is measured against.
    fn ratio_of(&self, row: &Row) -> Option<f64> {
        let against = self.row(row.against, row.metric.name, &row.setting)?;
        ratio(row, against)
    }

    pub fn print(&self) {
        if !self.options.json {
            self.print_tables();
        }
        println!("{}", self.json());
    }

    fn print_tables(&self) {
        let mut metrics: Vec<Metric> = Vec::new();
        for row in &self.rows {
            if !metrics.iter().any(|metric| metric.name == row.metric.name) {
                metrics.push(row.metric);
            }
        }
        println!("{}\n{}, {}, {}\n{}\n", command(), cpu(), env!("REPORT_RUSTC"), env!("REPORT_COMMIT"), LEGEND);
        for metric in metrics {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.metric.name == metric.name).collect();
            let mut keys: Vec<&str> = rows.iter().flat_map(|row| row.setting.iter().map(|(key, _)| *key)).collect();
            keys.sort_unstable();
            keys.dedup();
            let ratios: Vec<_> = rows.iter().map(|row| self.ratio_of(row)).collect();
            let mut head = vec![format!("{}, {}", metric.name, metric.unit)];
            head.extend(keys.iter().map(|key| (*key).to_owned()));
            head.extend(["median", "min", "max"].map(str::to_owned));
            if ratios.iter().any(Option::is_some) {
                head.extend(["ratio", "to"].map(str::to_owned));
            }
            let mut table = Table::new(head);
            for (row, ratio) in rows.into_iter().zip(ratios) {
                let of_key = |key: &&str| row.setting.iter().find(|(name, _)| name == key);
                let mut cells = vec![row.contestant.clone()];
                cells.extend(keys.iter().map(|key| of_key(key).map_or(String::new(), |(_, value)| value.to_string())));
                cells.extend([median(&row.values), min(&row.values), max(&row.values)].map(significant));
                if let Some(ratio) = ratio {
                    cells.extend([significant(ratio), row.against.to_owned()]);
                }
                table.push(cells);
            }
            println!("{table}");
        }
        for (figure, value, bar) in &self.bars {
            let (relation, bound) = bar.parts();
            let outcome = if bar.holds(*value) { "held" } else { "MISSED" };
            println!("{outcome:<7} {figure}: {} ({relation} {bound})", significant(*value));
        }
        println!();
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let mut object = json!({
                "contestant": row.contestant,
                "metric": row.metric.name,
                "unit": row.metric.unit,
                "median": median(&row.values),
                "min": min(&row.values),
                "max": max(&row.values),
                "values": row.values,
                "ratio": self.ratio_of(row),
                "against": row.against,
            });
            for (key, value) in &row.setting {
                object[*key] = (*value).into();
            }
            object
        });
        let bars = self.bars.iter().map(|(figure, value, bar)| {
            let (relation, bound) = bar.parts();
            json!({ "figure": figure, "value": value, relation: bound, "held": bar.holds(*value) })
        });
        json!({
            "scenario": self.scenario,
            "machine": { "cpu": cpu(), "cores": cores() },
            "rustc": env!("REPORT_RUSTC"),
            "commit": env!("REPORT_COMMIT"),
            "command": command(),
            "rounds": self.options.rounds,
            "rows": rows.collect::<Vec<_>>(),
            "bars": bars.collect::<Vec<_>>(),
        })
    }
}

const LEGEND: &str = "median, min and max over the rounds; ratio: the median of the ratios within a round";

impl Bar {
    fn parts(&self) -> (&'static str, f64) {
        match *self {
            Self::AtLeast(bound) => ("at_least", bound),
            Self::AtMost(bound) => ("at_most", bound),
        }
    }

    fn holds(&self, value: f64) -> bool {
        match *self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// The median ratio of two rows that were measured in the same rounds.
pub fn ratio(row: &Row, to: &Row) -> Option<f64> {
    let ratios: Vec<_> = row.values.iter().zip(&to.values).map(|(value, to)| value / to).collect();
    let ratio = median(&ratios);
    (row.values.len() == to.values.len() && ratio.is_finite()).then_some(ratio)
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => sorted[count / 2 - 1].midpoint(sorted[count / 2]),
        count => sorted[count / 2],
    }
}

pub fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

pub fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

/// A number with three digits or more.
pub fn significant(value: f64) -> String {
    let decimals = (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0);
    if value == 0.0 { "0".to_owned() } else { format!("{value:.*}", decimals as usize) }
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    format!("{model}, {} cores", cores())
}

fn command() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    format!("cargo run --release -p connring-peers -- {}", arguments.join(" "))
}
