//! The table that is printed once a second.

use std::fmt::Write;
use std::time::Duration;

use connring::{PoolStatus, ServerState, ServerStatus};

use crate::record::{Roster, Tally, name, quantiles};
use crate::report::{Screen, spread};

/// The widest address that leaves the table within 100 columns.
const WIDEST_ADDRESS: usize = 24;

const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const RED: u8 = 31;
const BOLD: u8 = 1;

/// Prints what the pool says of itself, and what the tasks counted in the last `span`.
pub(crate) fn print(
    screen: &Screen,
    at: Duration,
    span: Duration,
    recent: &Tally,
    status: &PoolStatus,
    roster: &Roster,
) {
    let width = roster.addresses().iter().map(|address| address.len()).max().unwrap_or(0).min(WIDEST_ADDRESS);
    let head = format!(
        "{:>5} s  {:<width$}  {:<17}{:>7}{:>7}{:>8}{:>10}{:>12}",
        at.as_secs_f64().round(),
        "server",
        "state",
        "req/s",
        "idle",
        "in use",
        "dialling",
        "next retry",
        width = width + 3,
    );
    let mut text = format!("\n{}\n", screen.styled(BOLD, &head));

    for (place, address) in roster.addresses().iter().enumerate() {
        let server = status.servers.iter().find(|server| server.address == *address);
        let (state, style) = state(server);
        let per_second = recent.answered[place] as f64 / span.as_secs_f64();
        let counts = server.map_or(["-"; 3].map(str::to_owned), |server| {
            [server.idle.to_string(), server.in_use.to_string(), server.connecting.to_string()]
        });
        let _ = writeln!(
            text,
            "         {:<2} {address:<width$.width$}  {}{per_second:>7.0}{:>7}{:>8}{:>10}{:>12}",
            name(place),
            screen.styled(style, &format!("{state:<17}")),
            counts[0],
            counts[1],
            counts[2],
            next_retry(server),
        );
    }

    let _ = write!(text, "         acquire  {}   {} waiting", spread(quantiles(&recent.acquire)), status.waiters);
    let Tally { failed, wrong, io_errors, timeouts, .. } = recent;
    for (count, what, style) in [
        (failed, "acquires failed", RED),
        (wrong, "wrong answers", RED),
        (io_errors, "I/O errors, sent again", YELLOW),
        (timeouts, "timeouts, sent again", YELLOW),
    ] {
        if *count > 0 {
            let _ = write!(text, "\n         {}", screen.styled(style, &format!("{what}: {count}")));
        }
    }
    screen.line(&text);
}

fn state(server: Option<&ServerStatus>) -> (String, u8) {
    match server.map(|server| server.state) {
        None => ("not in the pool".into(), 0),
        Some(ServerState::Up) => ("up".into(), GREEN),
        Some(ServerState::Recovering { .. }) => ("recovering".into(), YELLOW),
        Some(ServerState::Down { failures: 1, .. }) => ("down, 1 failure".into(), RED),
        Some(ServerState::Down { failures, .. }) => (format!("down, {failures} failures"), RED),
        Some(ServerState::Probing { .. }) => ("being probed".into(), YELLOW),
        Some(ServerState::Draining) => ("draining".into(), YELLOW),
        Some(other) => (format!("{other:?}"), 0),
    }
}

fn next_retry(server: Option<&ServerStatus>) -> String {
    match server.map(|server| server.state) {
        Some(ServerState::Down { retry_after, .. }) => format!("{:.2} s", retry_after.as_secs_f64()),
        Some(ServerState::Probing { .. }) => "now".into(),
        _ => "-".into(),
    }
}
