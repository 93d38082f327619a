//! Prints a snapshot as a table that a person can read.

use std::fmt;
use std::time::Duration;

use super::{PoolStatus, ServerState, ServerStatus};

/// The columns. Those after the first two are numbers, which are aligned to the right.
const COLUMNS: [&str; 11] = [
    "server",
    "state",
    "open/max",
    "idle",
    "in use",
    "connecting",
    "closing",
    "checkouts",
    "failures",
    "connects/failed",
    "closed",
];
/// The most characters of an error.
const ERROR: usize = 60;

impl fmt::Display for PoolStatus {
    /// Prints a line for the pool, a line of headings, and a line for each server, without a line break at the end. The
    /// last connect error of a server follows in a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, servers, waiters, totals, waits, wait_timeouts, queue_full, closed } = self;
        write!(f, "pool {name}{}: waiters {waiters}", if *closed { " (closed)" } else { "" })?;
        write!(f, ", waits {waits} ({wait_timeouts} timed out), queue full {queue_full}")?;
        write!(f, ", checkouts {}, failures {}, ejections {}", totals.checkouts, totals.failures, totals.ejections)?;
        let rows: Vec<_> = servers.iter().map(row).collect();
        let widths: [usize; COLUMNS.len()] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].as_str()).chain([COLUMNS[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        });
        write_row(f, COLUMNS, widths)?;
        for (server, row) in servers.iter().zip(&rows) {
            write_row(f, row.each_ref().map(String::as_str), widths)?;
            if let Some(error) = &server.connect_error {
                write!(f, "\n  last connect error: {}", shortened(error))?;
            }
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: [&str; COLUMNS.len()], widths: [usize; COLUMNS.len()]) -> fmt::Result {
    let [name, state, numbers @ ..] = row;
    write!(f, "\n{name:0$}  {state:1$}", widths[0], widths[1])?;
    numbers.iter().zip(&widths[2..]).try_for_each(|(number, width)| write!(f, "  {number:>width$}"))
}

fn row(server: &ServerStatus) -> [String; COLUMNS.len()] {
    let totals = &server.totals;
    [
        server.name.to_string(),
        state(server),
        format!("{}/{}", server.open, server.max_conns),
        server.idle.to_string(),
        server.in_use.to_string(),
        server.connecting.to_string(),
        server.closing.to_string(),
        totals.checkouts.to_string(),
        totals.failures.to_string(),
        format!("{}/{}", totals.connects, totals.connect_failures),
        totals.closed().to_string(),
    ]
}

/// The state with its times.
fn state(server: &ServerStatus) -> String {
    let mut text = server.state.kind().name().to_owned();
    match (server.state, server.connecting_paused) {
        (ServerState::Down { retry_after, .. } | ServerState::Ejected { retry_after }, _) => {
            text.push_str(&format!(", retry {}", seconds(retry_after)));
        }
        (ServerState::Disabled { ends_in: Some(time) }, _) => text.push_str(&format!(", ends {}", seconds(time))),
        (ServerState::Up, Some(paused)) => text.push_str(&format!(", connecting paused {}", seconds(paused))),
        _ => {}
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// The first characters of a text, on one line.
fn shortened(text: &str) -> String {
    let clean = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.char_indices().nth(ERROR) {
        None => clean(text),
        Some(_) => {
            let kept: String = text.chars().take(ERROR - 1).collect();
            format!("{}…", clean(&kept))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close_reason::CloseReason;
    use crate::status::Totals;

    fn server(name: &str, state: ServerState) -> ServerStatus {
        ServerStatus {
            name: name.into(),
            address: name.into(),
            state,
            open: 0,
            max_conns: 10,
            idle: 0,
            weight: 1,
            tier: 0,
            standby: false,
            max_idle: 10,
            min_idle: 0,
            connecting: 0,
            closing: 0,
            in_use: 0,
            max_rps: None,
            connecting_paused: None,
            connect_error: None,
            totals: Totals::default(),
        }
    }

    /// The text is the one in the documentation of `PoolStatus`.
    #[test]
    fn table_is_aligned_and_is_that_of_the_docs() {
        let mut up = server("db-1", ServerState::Up);
        (up.open, up.idle, up.in_use, up.connecting) = (8, 5, 2, 1);
        up.totals = Totals { checkouts: 48_210, failures: 3, connects: 9, connect_failures: 1, ..Totals::default() };
        up.totals.closes[CloseReason::IdleTimeout as usize] = 2;
        let retry_after = Duration::from_millis(1_240);
        let mut down = server("db-2", ServerState::Down { failures: 4, retry_after });
        down.connect_error = Some("connect failed: Connection refused (os error 111)".to_owned());
        down.totals = Totals { connect_failures: 4, ..Totals::default() };
        let totals = Totals { checkouts: 48_210, failures: 3, connects: 9, closes: up.totals.closes, ..down.totals };
        let status = PoolStatus {
            name: "sessions".into(),
            servers: vec![up, down],
            waiters: 2,
            totals,
            waits: 120,
            wait_timeouts: 1,
            queue_full: 0,
            closed: false,
        };
        let docs: Vec<_> = include_str!("../status.rs").lines().collect();
        let begin = docs.iter().position(|line| *line == "/// ```text").expect("there is a table") + 1;
        let docs: Vec<_> =
            docs[begin..].iter().take_while(|line| **line != "/// ```").map(|line| &line["/// ".len()..]).collect();
        assert_eq!(status.to_string(), docs.join("\n"));
    }

    #[test]
    fn states_show_their_times_and_errors_are_cut() {
        let ejected = ServerState::Ejected { retry_after: Duration::from_secs(30) };
        let [ends, never] = [Some(Duration::from_secs(7)), None].map(|ends_in| ServerState::Disabled { ends_in });
        let states = [ejected, ServerState::Probing { failures: 2 }, ServerState::Draining, ends, never];
        let texts = states.map(|state| super::state(&server("a", state)));
        assert_eq!(texts, ["ejected, retry 30.0s", "probing", "draining", "disabled, ends 7.0s", "disabled"]);
        let mut paused = server("a", ServerState::Up);
        paused.connecting_paused = Some(Duration::from_millis(50));
        assert_eq!(super::state(&paused), "up, connecting paused 0.1s");
        assert_eq!(shortened(&"ü".repeat(ERROR)), "ü".repeat(ERROR));
        assert_eq!(shortened(&format!("a\nb{}", "ü".repeat(ERROR))), format!("a b{}…", "ü".repeat(ERROR - 4)));
    }
}
