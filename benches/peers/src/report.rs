//! Runs the contestants in rounds and prints the results: tables, and as the last line of the output one JSON object.
//!
//! Noise on shared machines comes in stretches that outlast a single measurement. So each round measures every
//! contestant once, and a ratio is the median over the rounds of the ratio within a round.

use std::thread;

use serde_json::{Value, json};

use crate::table::Table;

/// The command-line options of all scenarios.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// Print only the JSON object
    #[arg(long)]
    pub json: bool,

    /// Number of measurements of each contestant
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// Parameters that tell rows of the same contestant apart, such as the number of threads.
pub type Setting = Vec<(&'static str, u64)>;

/// The name and the unit of a measured value.
#[derive(Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
}

/// A contestant at one setting, measured once a round. A measurement returns one value for each metric.
pub struct Entrant<'a> {
    pub contestant: String,
    pub setting: Setting,
    /// The reference of the ratio: the contestant of this name at the same setting.
    pub against: &'static str,
    pub measure: Box<dyn FnMut() -> Vec<f64> + 'a>,
}

/// The values of one metric of one contestant at one setting, one for each round.
pub struct Row {
    pub contestant: String,
    pub setting: Setting,
    pub metric: Metric,
    pub against: &'static str,
    pub values: Vec<f64>,
}

/// The bound that a figure must meet.
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

pub struct Report {
    scenario: &'static str,
    options: Options,
    rows: Vec<Row>,
    /// The description of each figure, its value and its target.
    targets: Vec<(String, f64, Target)>,
}

impl Report {
    pub fn new(scenario: &'static str, options: &Options) -> Self {
        Self { scenario, options: options.clone(), rows: Vec::new(), targets: Vec::new() }
    }

    /// Measures all entrants once a round, in an order that rotates from round to round. Discards an additional first
    /// round. If the entrants cannot all exist at the same time, call this several times.
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
                assert_eq!(values.len(), metrics.len(), "an entrant returns one value for each metric");
                if round > 0 {
                    let rows = &mut self.rows[first + index * metrics.len()..][..metrics.len()];
                    rows.iter_mut().zip(values).for_each(|(row, value)| row.values.push(value));
                }
            }
        }
    }

    /// Adds a row that [`Report::measure`] did not measure.
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

    /// Adds a figure and its target.
    pub fn target(&mut self, figure: impl Into<String>, value: f64, target: Target) {
        self.targets.push((figure.into(), value, target));
    }

    /// Returns the median ratio of a row to its reference row.
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

    /// Prints the figures and their targets as one table. Figures without a target are rows of it, too.
    pub fn print_bars(&self) {
        if !self.options.json {
            println!("{}\n{}, {}, {}\n", command(), cpu(), env!("REPORT_RUSTC"), env!("REPORT_COMMIT"));
            let mut table = Table::new(["figure", "worst", "bar", ""].map(str::to_owned).into());
            for (figure, value, target) in &self.targets {
                let (relation, bound) = target.parts();
                let (bar, outcome) = (format!("{} {bound}", relation.replace('_', " ")), target.outcome(*value));
                table.push(vec![figure.clone(), significant(*value), bar, outcome.to_owned()]);
            }
            for row in &self.rows {
                let figure = format!("{}, {}", row.contestant, row.metric.unit);
                if !self.targets.iter().any(|(named, ..)| *named == figure) {
                    table.push(vec![figure, significant(max(&row.values))]);
                }
            }
            println!("{table}");
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
        for (figure, value, target) in &self.targets {
            let (relation, bound) = target.parts();
            let outcome = target.outcome(*value);
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
        let targets = self.targets.iter().map(|(figure, value, target)| {
            let (relation, bound) = target.parts();
            json!({ "figure": figure, "value": value, relation: bound, "held": target.holds(*value) })
        });
        json!({
            "scenario": self.scenario,
            "machine": { "cpu": cpu(), "cores": cores() },
            "rustc": env!("REPORT_RUSTC"),
            "commit": env!("REPORT_COMMIT"),
            "command": command(),
            "rounds": self.options.rounds,
            "rows": rows.collect::<Vec<_>>(),
            "bars": targets.collect::<Vec<_>>(),
        })
    }
}

const LEGEND: &str = "median, min and max over the rounds; ratio: the median of the ratios within a round";

impl Target {
    fn parts(&self) -> (&'static str, f64) {
        match *self {
            Self::AtLeast(bound) => ("at_least", bound),
            Self::AtMost(bound) => ("at_most", bound),
        }
    }

    fn outcome(&self, value: f64) -> &'static str {
        if self.holds(value) { "held" } else { "MISSED" }
    }

    fn holds(&self, value: f64) -> bool {
        match *self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// Returns the median ratio of two rows that were measured in the same rounds, or `None` if their rounds differ.
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

/// Formats a number with at least three significant digits.
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
