//! A table's rows, and the judge.

use std::fmt;
use std::time::Duration;

use crate::case::TASKS;

/// One fault with one contestant.
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) pool: &'static str,
    /// Requests in the second before the fault.
    pub(crate) before: usize,
    pub(crate) wrong: usize,
    pub(crate) lost: usize,
    pub(crate) failed: usize,
    pub(crate) late: usize,
    /// From the end of the fault until the server answers a request that began after it.
    pub(crate) back: Option<Duration>,
    /// Attempts at the server during the fault.
    pub(crate) connects: u64,
    /// What the requests took that began during the fault, sorted.
    pub(crate) times: Vec<Duration>,
}

/// Names and widths. The first two are of text.
const COLUMNS: [(&str, usize); 13] = [
    ("fault", 22),
    ("pool", 8),
    ("before", 6),
    ("during", 6),
    ("wrong", 5),
    ("lost", 4),
    ("failed", 6),
    ("p50 ms", 6),
    ("p99 ms", 6),
    ("max ms", 6),
    ("late", 4),
    ("back ms", 7),
    ("connects", 8),
];
const TEXTS: usize = 2;

/// The head of a table in Markdown.
pub(crate) fn head() -> String {
    let rule = COLUMNS.iter().enumerate().map(|(at, (_, width))| match at < TEXTS {
        true => "-".repeat(*width),
        false => format!("{}:", "-".repeat(width - 1)),
    });
    format!("{}\n{}", line(COLUMNS.map(|(name, _)| name.to_owned())), line(rule))
}

/// A line of it.
fn line(cells: impl IntoIterator<Item = String>) -> String {
    let padded = COLUMNS.iter().zip(cells).enumerate().map(|(at, ((_, width), cell))| match at < TEXTS {
        true => format!("| {cell:<width$} "),
        false => format!("| {cell:>width$} "),
    });
    padded.collect::<String>() + "|"
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Row {
    fn quantile(&self, ratio: f64) -> f64 {
        let at = (self.times.len().saturating_sub(1) as f64 * ratio) as usize;
        self.times.get(at).map_or(f64::NAN, |&time| ms(time))
    }

    /// What must not be: a wrong answer, a lost permit, a server that is not used again in time, tasks that stall, or
    /// failures beyond one for each task and one in fifty requests.
    pub(crate) fn violations(&self, patience: Duration) -> Vec<String> {
        let Self { fault, pool, before, wrong, lost, failed, back, .. } = self;
        let during = self.times.len();
        let rules = [
            (*wrong > 0, format!("{wrong} wrong answers")),
            (*lost > 0, format!("{lost} lost permits")),
            (during < before / 4, format!("{during} requests during the fault, {before} before it")),
            (*failed > TASKS + during / 50, format!("{failed} of {during} requests failed")),
            (back.is_none_or(|back| back > patience), format!("the server was not used again within {patience:?}")),
        ];
        rules
            .into_iter()
            .filter(|(is_broken, _)| *is_broken)
            .map(|(_, what)| format!("{pool}, {fault}: {what}"))
            .collect()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, pool, before, wrong, lost, failed, late, back, connects, times } = self;
        let [before, during, wrong, lost, failed, late] =
            [*before, times.len(), *wrong, *lost, *failed, *late].map(|count| count.to_string());
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|ratio| format!("{:.1}", self.quantile(ratio)));
        let back = back.map_or_else(|| "never".to_owned(), |time| format!("{:.0}", ms(time)));
        let (fault, pool, connects) = ((*fault).to_owned(), (*pool).to_owned(), connects.to_string());
        f.write_str(&line([fault, pool, before, during, wrong, lost, failed, p50, p99, max, late, back, connects]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let back = Some(Duration::from_millis(1_999));
        Row {
            fault: "kill",
            pool: "connring",
            before: 9,
            wrong: 0,
            lost: 0,
            failed: 64,
            late: 9,
            back,
            connects: 9,
            times: vec![Duration::ZERO; 5],
        }
    }

    #[test]
    fn judge_finds_wrong_answers_lost_permits_stalls_failures_and_late_returns() {
        let judge = |row: Row| row.violations(Duration::from_secs(2)).len();
        assert_eq!(judge(row()), 0);
        assert_eq!(judge(Row { wrong: 1, ..row() }), 1);
        assert_eq!(judge(Row { lost: 1, ..row() }), 1);
        assert_eq!(judge(Row { times: vec![Duration::ZERO; 1], ..row() }), 1);
        assert_eq!(judge(Row { failed: 65, ..row() }), 1);
        assert_eq!(judge(Row { failed: 65, times: vec![Duration::ZERO; 50], ..row() }), 0);
        assert_eq!(judge(Row { back: None, ..row() }), 1);
        assert_eq!(judge(Row { back: Some(Duration::from_millis(2_001)), ..row() }), 1);
    }
}
