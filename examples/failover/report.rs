//! What a person, or a program, is told.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::args::Args;
use crate::record::{Roster, Tally, name, quantiles};
use crate::trouble::Event;

/// Where the lines for a person go.
pub(crate) struct Screen {
    /// Stdout is for a program then.
    to_stderr: bool,
    styled: bool,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        let styled = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Self { to_stderr: json, styled }
    }

    /// Prints one line, or a few. That nobody reads them is no reason to stop.
    pub(crate) fn line(&self, text: &str) {
        let _ = if self.to_stderr { writeln!(io::stderr(), "{text}") } else { writeln!(io::stdout(), "{text}") };
    }

    /// `text` in an ANSI style (`31` red, `32` green, `33` yellow, `1` bold), if the screen is a terminal.
    pub(crate) fn styled(&self, style: u8, text: &str) -> String {
        if self.styled { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn opening(&self, args: &Args, roster: &Roster, registered: usize) {
        let pace = match args.rps {
            0 => "as fast as the answers come".to_owned(),
            rps => format!("{rps} requests a second in all"),
        };
        self.line(&format!("{} tasks send requests through one pool for {} s, {pace}.", args.tasks, args.seconds));
        self.line("The servers:");
        for (place, address) in roster.addresses().iter().enumerate() {
            let later = if place < registered { "" } else { "   (joins later)" };
            self.line(&format!("  {} {address}{later}", name(place)));
        }
    }

    pub(crate) fn event(&self, at: Duration, event: &Event) {
        let text = format!(">>> {:.1} s: server {} {}", at.as_secs_f64(), name(event.server), event.line);
        self.line(&format!("\n{}", self.styled(1, &text)));
    }

    pub(crate) fn summary(
        &self,
        args: &Args,
        lasted: Duration,
        total: &Tally,
        overdue: u64,
        complaints: &[String],
        picture: &str,
    ) {
        let Tally { acquire, call, answered, failed, wrong, io_errors, timeouts } = total;
        let mut text = format!("\nIn {:.1} s:\n", lasted.as_secs_f64());
        let mut row = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<10} {value}");
        };
        row("acquires", format!("{} succeeded, {failed} failed", grouped(acquire.len())));
        row("answers", format!("{} right, {wrong} wrong", grouped(answered.iter().sum())));
        row(
            "sent again",
            format!("{}: {io_errors} after an I/O error, {timeouts} after a timeout", io_errors + timeouts),
        );
        row("acquire", format!("{}   from when the request was due", spread(quantiles(acquire))));
        row("", format!("{}   from the call", spread(quantiles(call))));
        // A few fell due in the last moment.
        if overdue > u64::from(args.rps) / 100 {
            row("overdue", format!("{} requests were due that no task had come round to", grouped(overdue)));
        }
        for complaint in complaints {
            row("!", complaint.clone());
        }
        row("picture", picture.to_owned());
        self.line(text.trim_end_matches('\n'));
    }
}

/// The four numbers of an acquire in one line.
pub(crate) fn spread(nanos: [u64; 4]) -> String {
    let [p50, p99, p999, max] = nanos.map(duration);
    format!("p50 {p50:>7}  p99 {p99:>7}  p99.9 {p999:>7}  max {max:>7}")
}

/// Nanoseconds in three digits or so, with their unit.
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

/// A number with its digits in groups of three.
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

/// The result for a program.
pub(crate) fn json(total: &Tally) -> serde_json::Value {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let [p50, p99, p999, max] = quantiles(&total.acquire).map(micros);
    serde_json::json!({
        "acquired": total.acquire.len(),
        "failed": total.failed,
        "answered": total.answered.iter().sum::<u64>(),
        "wrong_answers": total.wrong,
        "io_errors": total.io_errors,
        "timeouts": total.timeouts,
        "acquire_p50_us": p50,
        "acquire_p99_us": p99,
        "acquire_p999_us": p999,
        "acquire_max_us": max,
    })
}
