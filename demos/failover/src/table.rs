//! The table printed once a second.

use std::fmt::Write;
use std::time::Duration;

use crate::pools::{PoolView, ServerView, Tone};
use crate::record::{Roster, Tally, name, quantiles};
use crate::report::{BOLD, GREEN, RED, Screen, YELLOW, spread};

/// The widest address that leaves the table within 100 columns.
const WIDEST_ADDRESS: usize = 24;

/// Prints the contestant's view of the servers, and the counts of the last `span`.
pub(crate) fn print(screen: &Screen, at: Duration, span: Duration, recent: &Tally, view: &PoolView, roster: &Roster) {
    let width = roster.addresses().iter().map(|address| address.len()).max().unwrap_or(0).min(WIDEST_ADDRESS);
    let head = format!(
        "{:>5} s  {:<width$}  {:<17}{:>10}{:>7}{:>8}{:>12}{:>12}",
        at.as_secs_f64().round(),
        "server",
        "state",
        "answers/s",
        "idle",
        "in use",
        "connecting",
        "next retry",
        width = width + 3,
    );
    let mut text = format!("\n{}\n", screen.styled(BOLD, &head));

    for (place, address) in roster.addresses().iter().enumerate() {
        let server = view.servers.iter().find(|server| server.address == *address);
        let (state, style) = server.map_or(("not in the pool", None), |server| (&server.state, style(server.tone)));
        let per_second = recent.answered[place] as f64 / span.as_secs_f64();
        let or_dash = |count: Option<String>| count.unwrap_or_else(|| "-".to_owned());
        let _ = writeln!(
            text,
            "         {:<2} {address:<width$.width$}  {}{per_second:>10.0}{:>7}{:>8}{:>12}{:>12}",
            name(place),
            screen.styled(style.unwrap_or(0), &format!("{state:<17}")),
            or_dash(server.map(|server| server.idle.to_string())),
            or_dash(server.map(|server| server.in_use.to_string())),
            or_dash(server.and_then(|server| server.connecting).map(|count| count.to_string())),
            or_dash(server.and_then(next_retry)),
        );
    }

    let _ = write!(text, "         acquire  {}   {} waiting", spread(quantiles(&recent.in_call)), view.waiting);
    let Tally { failed, wrong, io_errors, timeouts, .. } = recent;
    for (count, label, style) in [
        (failed, "failed acquires", RED),
        (wrong, "wrong answers", RED),
        (io_errors, "requests sent again after an I/O error", YELLOW),
        (timeouts, "requests sent again after a timeout", YELLOW),
    ] {
        if *count > 0 {
            let _ = write!(text, "\n         {}", screen.styled(style, &format!("{label}: {count}")));
        }
    }
    screen.line(&text);
}

fn style(tone: Tone) -> Option<u8> {
    match tone {
        Tone::Good => Some(GREEN),
        Tone::Uncertain => Some(YELLOW),
        Tone::Bad => Some(RED),
        Tone::Neutral => None,
    }
}

fn next_retry(server: &ServerView) -> Option<String> {
    let after = server.retry_after?;
    Some(if after.is_zero() { "now".to_owned() } else { format!("{:.2} s", after.as_secs_f64()) })
}
