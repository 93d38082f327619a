//! Counts by the tasks, and the timeline of a run.

use std::error::Error;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The number of tallies that the tasks share, so that they rarely contend.
const SHARDS: usize = 16;

/// The number of different failures kept for the summary.
const MAX_FAILURES: usize = 5;

/// The servers of a run, each named by a letter.
#[derive(Debug, Clone)]
pub(crate) struct Roster(Arc<[Arc<str>]>);

impl Roster {
    pub(crate) fn new(addresses: Vec<Arc<str>>) -> Self {
        Self(addresses.into())
    }

    pub(crate) fn addresses(&self) -> &[Arc<str>] {
        &self.0
    }

    /// Returns the place of a server in the roster.
    ///
    /// # Panics
    ///
    /// Panics if the roster does not have the server.
    pub(crate) fn place(&self, address: &str) -> usize {
        self.0.iter().position(|known| **known == *address).expect("all servers are in the roster")
    }
}

/// Returns the name of the server at a place in the roster.
pub(crate) fn name(place: usize) -> String {
    match u8::try_from(place) {
        Ok(letter @ 0..26) => char::from(b'A' + letter).into(),
        _ => format!("S{}", place + 1),
    }
}

/// The counts of a span of time.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Nanoseconds from the due time of a request to the end of its acquire, successful or not.
    pub(crate) since_due: Histogram<u64>,
    /// Nanoseconds of the acquire call alone.
    pub(crate) in_call: Histogram<u64>,
    /// Acquires that returned a connection.
    pub(crate) acquired: u64,
    /// Correct answers, by server.
    pub(crate) answered: Vec<u64>,
    /// Acquires that failed.
    pub(crate) failed: u64,
    /// Answers that did not match their request.
    pub(crate) wrong: u64,
    /// Requests sent again after an error on their connection.
    pub(crate) io_errors: u64,
    /// Requests sent again after a timeout.
    pub(crate) timeouts: u64,
}

impl Tally {
    pub(crate) fn new(roster: &Roster) -> Self {
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000_000, 2).expect("the bounds are valid");
        Self {
            since_due: histogram(),
            in_call: histogram(),
            acquired: 0,
            answered: vec![0; roster.addresses().len()],
            failed: 0,
            wrong: 0,
            io_errors: 0,
            timeouts: 0,
        }
    }

    fn record(&mut self, times: Times) {
        self.since_due.saturating_record(nanos(times.since_due));
        self.in_call.saturating_record(nanos(times.in_call));
    }

    /// Adds the counts of `other` and resets them to 0.
    fn take_in(&mut self, other: &mut Self) {
        let Self { since_due, in_call, acquired, answered, failed, wrong, io_errors, timeouts } = other;
        for (mine, theirs) in [(&mut self.since_due, since_due), (&mut self.in_call, in_call)] {
            if !theirs.is_empty() {
                mine.add(&*theirs).expect("the histograms have the same bounds");
                theirs.reset();
            }
        }
        for (mine, theirs) in self.answered.iter_mut().zip(answered) {
            *mine += mem::take(theirs);
        }
        self.acquired += mem::take(acquired);
        self.failed += mem::take(failed);
        self.wrong += mem::take(wrong);
        self.io_errors += mem::take(io_errors);
        self.timeouts += mem::take(timeouts);
    }
}

/// The two times of an acquire, both up to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) since_due: Duration,
    pub(crate) in_call: Duration,
}

/// The counters that the tasks update.
pub(crate) struct Recorder {
    shards: Vec<Mutex<Tally>>,
    empty: Tally,
    /// The first few different failures, with their numbers of occurrences.
    failures: Mutex<Vec<(String, u64)>>,
}

impl Recorder {
    pub(crate) fn new(roster: &Roster) -> Self {
        let empty = Tally::new(roster);
        let shards = (0..SHARDS).map(|_| Mutex::new(empty.clone())).collect();
        Self { shards, empty, failures: Mutex::default() }
    }

    pub(crate) fn acquired(&self, task: usize, times: Times) {
        let mut tally = self.tally(task);
        tally.record(times);
        tally.acquired += 1;
    }

    pub(crate) fn acquire_failed(&self, task: usize, times: Times, error: &dyn Error) {
        let mut tally = self.tally(task);
        tally.record(times);
        tally.failed += 1;
        drop(tally);
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Skips the source if the error's own text contains it.
            let source = error.to_string();
            if !text.ends_with(&source) {
                text = format!("{text}: {source}");
            }
            cause = error.source();
        }
        self.note_failure(text);
    }

    pub(crate) fn answered(&self, task: usize, server: usize) {
        self.tally(task).answered[server] += 1;
    }

    pub(crate) fn answered_wrong(&self, task: usize, server: &str, expected: &[u8], got: &[u8]) {
        self.tally(task).wrong += 1;
        self.note_failure(format!("{server} answered {} for {}", got.escape_ascii(), expected.escape_ascii()));
    }

    pub(crate) fn io_error(&self, task: usize) {
        self.tally(task).io_errors += 1;
    }

    pub(crate) fn timed_out(&self, task: usize) {
        self.tally(task).timeouts += 1;
    }

    /// Returns the counts since the last drain.
    pub(crate) fn drain(&self) -> Tally {
        let mut sum = self.empty.clone();
        for shard in 0..SHARDS {
            sum.take_in(&mut self.tally(shard));
        }
        sum
    }

    /// Returns the first few different failures, with their numbers of occurrences.
    pub(crate) fn failures(&self) -> Vec<(String, u64)> {
        lock(&self.failures).clone()
    }

    fn tally(&self, task: usize) -> MutexGuard<'_, Tally> {
        lock(&self.shards[task % SHARDS])
    }

    fn note_failure(&self, text: String) {
        let mut failures = lock(&self.failures);
        if let Some((_, count)) = failures.iter_mut().find(|(known, _)| *known == text) {
            *count += 1;
        } else if failures.len() < MAX_FAILURES {
            failures.push((text, 1));
        }
    }
}

/// The counts of a short interval of the run.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The beginning and the end of the interval, since the start of the run.
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// Correct answers, by server.
    pub(crate) answers_per_second: Vec<f64>,
    pub(crate) failures_per_second: f64,
    /// p50, p99, p99.9 and maximum of [`Tally::since_due`] and [`Tally::in_call`], if any acquire ended.
    pub(crate) since_due: Option<[u64; 4]>,
    pub(crate) in_call: Option<[u64; 4]>,
}

/// An event on the timeline.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) at: Duration,
    /// The server's place in the roster.
    pub(crate) server: usize,
    pub(crate) label: String,
}

/// The samples and the events of a run.
pub(crate) struct Timeline {
    samples: Vec<Sample>,
    marks: Vec<Mark>,
    total: Tally,
    /// The counts since the last table.
    recent: Tally,
    recent_from: Duration,
    empty: Tally,
}

impl Timeline {
    pub(crate) fn new(roster: &Roster) -> Self {
        let empty = Tally::new(roster);
        Self {
            samples: Vec::new(),
            marks: Vec::new(),
            total: empty.clone(),
            recent: empty.clone(),
            recent_from: Duration::ZERO,
            empty,
        }
    }

    /// Adds the counts since the last sample.
    pub(crate) fn sample(&mut self, mut tally: Tally, to: Duration) {
        let from = self.samples.last().map_or(Duration::ZERO, |last| last.to);
        let seconds = (to - from).as_secs_f64();
        self.samples.push(Sample {
            from,
            to,
            answers_per_second: tally.answered.iter().map(|&count| count as f64 / seconds).collect(),
            failures_per_second: tally.failed as f64 / seconds,
            since_due: (!tally.since_due.is_empty()).then(|| quantiles(&tally.since_due)),
            in_call: (!tally.in_call.is_empty()).then(|| quantiles(&tally.in_call)),
        });
        self.total.take_in(&mut tally.clone());
        self.recent.take_in(&mut tally);
    }

    /// Adds the counts after the last sample to the total. The picture does not show them.
    pub(crate) fn add_rest(&mut self, mut tally: Tally) {
        self.total.take_in(&mut tally);
    }

    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(crate) fn total(&self) -> &Tally {
        &self.total
    }

    /// Returns the counts since the last call of this function, and the span of time that they cover.
    pub(crate) fn take_recent(&mut self) -> (Tally, Duration) {
        let to = self.samples.last().map_or(Duration::ZERO, |last| last.to);
        let span = to - mem::replace(&mut self.recent_from, to);
        (mem::replace(&mut self.recent, self.empty.clone()), span)
    }
}

/// Returns p50, p99, p99.9 and the maximum.
pub(crate) fn quantiles(histogram: &Histogram<u64>) -> [u64; 4] {
    [
        histogram.value_at_quantile(0.5),
        histogram.value_at_quantile(0.99),
        histogram.value_at_quantile(0.999),
        histogram.max(),
    ]
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
