//! Prints a snapshot as a table that a person can read.

use std::fmt;
use std::time::Duration;

use super::{PoolStatus, ServerState, ServerStatus};

/// A heading, and the cell of a server.
type Column = (&'static str, fn(&ServerStatus) -> String);

/// The columns. Those after the first two are numbers, which are aligned to the right.
const COLUMNS: [Column; 13] = [
    ("server", |server| server.name.to_string()),
    ("state", state),
    (TIER, |server| server.tier.to_string()),
    (WEIGHT, |server| server.weight.to_string()),
    ("open/max", |server| format!("{}/{}", server.open, server.max_conns)),
    ("idle", |server| server.idle.to_string()),
    ("in use", |server| server.in_use.to_string()),
    ("connecting", |server| server.connecting.to_string()),
    ("closing", |server| server.closing.to_string()),
    ("checkouts", |server| server.totals.checkouts.to_string()),
    ("failures", |server| server.totals.failures.to_string()),
    ("connects/failed", |server| format!("{}/{}", server.totals.connects, server.totals.connect_failures)),
    ("closed", |server| server.totals.closed().to_string()),
];
/// Columns that are left out where all servers have the default.
const TIER: &str = "tier";
const WEIGHT: &str = "weight";
/// The most characters of an error.
const ERROR: usize = 60;

impl fmt::Display for PoolStatus {
    /// Prints a line for the pool, a line of headings, and a line for each server, without a line break at the end. The
    /// last connect error of a server follows in a line of its own. The columns `tier` and `weight` are there if a
    /// server has another tier than 0, or another weight than 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, servers, waiters, totals, waits, wait_timeouts, queue_full, closed } = self;
        write!(f, "pool {name}{}: waiters {waiters}", if *closed { " (closed)" } else { "" })?;
        write!(f, ", waits {waits} ({wait_timeouts} timed out), queue full {queue_full}")?;
        write!(f, ", checkouts {}, failures {}, ejections {}", totals.checkouts, totals.failures, totals.ejections)?;
        let is_shown = |heading: &str| match heading {
            TIER => servers.iter().any(|server| server.tier != 0),
            WEIGHT => servers.iter().any(|server| server.weight != 1),
            _ => true,
        };
        let columns: Vec<_> = COLUMNS.into_iter().filter(|(heading, _)| is_shown(heading)).collect();
        let headings: Vec<_> = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let row = |server: &ServerStatus| columns.iter().map(|(_, cell)| cell(server)).collect();
        let rows: Vec<Vec<_>> = servers.iter().map(row).collect();
        let width = |column: usize| {
            let cells = rows.iter().chain([&headings]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns.len()).map(width).collect();
        write_row(f, &headings, &widths)?;
        for (server, row) in servers.iter().zip(&rows) {
            write_row(f, row, &widths)?;
            if let Some(error) = &server.connect_error {
                write!(f, "\n  last connect error: {}", shortened(error))?;
            }
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &[String], widths: &[usize]) -> fmt::Result {
    write!(f, "\n{:2$}  {:3$}", row[0], row[1], widths[0], widths[1])?;
    row.iter().zip(widths).skip(2).try_for_each(|(number, width)| write!(f, "  {number:>width$}"))
}

/// The state with its times, and whether its tier is not in use.
fn state(server: &ServerStatus) -> String {
    let mut text = server.state.kind().name().to_owned();
    if server.standby {
        text.push_str(", standby");
    }
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
    fn tiers_and_weights_are_shown_where_a_server_has_one() {
        let status = |servers: Vec<ServerStatus>| PoolStatus {
            name: "a".into(),
            servers,
            waiters: 0,
            totals: Totals::default(),
            waits: 0,
            wait_timeouts: 0,
            queue_full: 0,
            closed: false,
        };
        let mut first = server("db-1", ServerState::Up);
        first.weight = 20;
        let mut second = server("db-2", ServerState::Up);
        (second.tier, second.standby, second.connecting_paused) = (1, true, Some(Duration::from_secs(2)));
        assert_eq!(
            status(vec![first.clone(), second.clone()]).to_string(),
            "pool a: waiters 0, waits 0 (0 timed out), queue full 0, checkouts 0, failures 0, ejections 0\n\
             server  state                                tier  weight  open/max  idle  in use  connecting  \
             closing  checkouts  failures  connects/failed  closed\n\
             db-1    up                                      0      20      0/10     0       0           0        \
             0          0         0              0/0       0\n\
             db-2    up, standby, connecting paused 2.0s     1       1      0/10     0       0           0        \
             0          0         0              0/0       0"
        );
        let headings = |server| status(vec![server]).to_string().lines().nth(1).unwrap_or_default().to_owned();
        assert!(headings(first).starts_with("server  state  weight  open/max"));
        assert!(headings(second).contains("state                                tier  open/max"));
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
