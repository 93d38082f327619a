//! The text output, and the JSON of the last line.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::args::Args;
use crate::record::{Roster, Tally, name, quantiles};
use crate::run::Run;
use crate::script::Event;

/// ANSI styles.
pub(crate) const BOLD: u8 = 1;
pub(crate) const RED: u8 = 31;
pub(crate) const GREEN: u8 = 32;
pub(crate) const YELLOW: u8 = 33;

/// The text output: to stdout, or to stderr if stdout is for JSON.
pub(crate) struct Screen {
    to_stderr: bool,
    styled: bool,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        let styled = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Self { to_stderr: json, styled }
    }

    /// Prints one line or more. A closed output does not stop the program.
    pub(crate) fn line(&self, text: &str) {
        let _ = if self.to_stderr { writeln!(io::stderr(), "{text}") } else { writeln!(io::stdout(), "{text}") };
    }

    /// Returns `text` in an ANSI style if the output is a terminal.
    pub(crate) fn styled(&self, style: u8, text: &str) -> String {
        if self.styled { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn opening(&self, args: &Args, roster: &Roster, initial: usize) {
        let pace = match args.rps {
            0 => "each as soon as the last one is answered".to_owned(),
            rps => format!("{} requests a second in total", grouped(rps.into())),
        };
        self.line(&format!("{} tasks send requests for {} s, {pace}.", args.tasks, args.seconds));
        self.line("The servers:");
        for (place, address) in roster.addresses().iter().enumerate() {
            let later = if place < initial { "" } else { "   (added later)" };
            self.line(&format!("  {} {address}{later}", name(place)));
        }
    }

    pub(crate) fn heading(&self, title: &str) {
        self.line(&format!("\n{}", self.styled(BOLD, &format!("=== {title}"))));
    }

    pub(crate) fn event(&self, at: Duration, event: &Event) {
        let text = format!(">>> {:.1} s: server {} {}", at.as_secs_f64(), name(event.server), event.line);
        self.line(&format!("\n{}", self.styled(BOLD, &text)));
    }

    pub(crate) fn summary(&self, args: &Args, run: &Run) {
        let Tally { since_due, in_call, acquired, answered, failed, wrong, io_errors, timeouts } = run.timeline.total();
        let mut text = format!("\n{}, in {:.1} s:\n", run.title, run.lasted.as_secs_f64());
        let mut row = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<10} {value}");
        };
        row("acquires", format!("{} succeeded, {} failed", grouped(*acquired), grouped(*failed)));
        row("answers", format!("{} correct, {wrong} wrong", grouped(answered.iter().sum())));
        row(
            "sent again",
            format!("{}: {io_errors} after an I/O error, {timeouts} after a timeout", io_errors + timeouts),
        );
        row("acquire", format!("{}   from when the request was due", spread(quantiles(since_due))));
        row("", format!("{}   the call alone", spread(quantiles(in_call))));
        // A few requests are always due at the last moment.
        if run.overdue > u64::from(args.rps) / 100 {
            row("overdue", format!("{} requests were due but not begun", grouped(run.overdue)));
        }
        for (failure, count) in &run.failures {
            row("failure", format!("{} times: {failure}", grouped(*count)));
        }
        self.line(text.trim_end_matches('\n'));
    }
}

/// Formats four quantiles in one line.
pub(crate) fn spread(nanos: [u64; 4]) -> String {
    let [p50, p99, p999, max] = nanos.map(duration);
    format!("p50 {p50:>7}  p99 {p99:>7}  p99.9 {p999:>7}  max {max:>7}")
}

/// Formats nanoseconds with a unit and at most three digits.
pub(crate) fn duration(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let decimals = if value < 9.995 { 1 } else { 0 };
    format!("{value:.decimals$} {unit}")
}

/// Formats a number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Returns the result of connring as JSON. The key `baseline` has that of the baseline, or null if it did not run.
pub(crate) fn json(ours: &Tally, baseline: Option<&Tally>) -> serde_json::Value {
    let mut result = result(ours);
    result["baseline"] = baseline.map_or(serde_json::Value::Null, self::result);
    result
}

fn result(total: &Tally) -> serde_json::Value {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let [p50, p99, p999, max] = quantiles(&total.since_due).map(micros);
    let [call_p50, call_p99, call_p999, call_max] = quantiles(&total.in_call).map(micros);
    serde_json::json!({
        "acquired": total.acquired,
        "failed": total.failed,
        "answered": total.answered.iter().sum::<u64>(),
        "wrong_answers": total.wrong,
        "io_errors": total.io_errors,
        "timeouts": total.timeouts,
        "acquire_p50_us": p50,
        "acquire_p99_us": p99,
        "acquire_p999_us": p999,
        "acquire_max_us": max,
        "call_p50_us": call_p50,
        "call_p99_us": call_p99,
        "call_p999_us": call_p999,
        "call_max_us": call_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_both_results() {
        let roster = Roster::new(vec!["a:1".into(), "b:1".into()]);
        let (mut ours, mut baseline) = (Tally::new(&roster), Tally::new(&roster));
        ours.answered = vec![3, 4];
        ours.wrong = 2;
        baseline.answered = vec![5, 0];
        baseline.failed = 6;
        let result = json(&ours, Some(&baseline));
        assert_eq!(
            (&result["answered"], &result["failed"], &result["wrong_answers"]),
            (&7.into(), &0.into(), &2.into())
        );
        let baseline = &result["baseline"];
        assert_eq!((&baseline["answered"], &baseline["failed"]), (&5.into(), &6.into()));
        assert!(json(&ours, None)["baseline"].is_null());
    }

    #[test]
    fn formats_durations_and_groups_digits() {
        assert_eq!([999, 1_000, 12_345, 2_499_805_183].map(duration), ["999 ns", "1.0 µs", "12 µs", "2.5 s"]);
        assert_eq!([7, 1_000, 240_040, 1_234_567].map(grouped), ["7", "1 000", "240 040", "1 234 567"]);
    }
}
