//! What is counted: by the tasks, many times a second, and over the time of the run.

use std::error::Error;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Tasks share this many tallies, so that they seldom meet.
const SHARDS: usize = 16;

/// How many of the things that must not happen are kept for the summary.
const COMPLAINTS: usize = 5;

/// The servers of the run, each with a letter for its name.
#[derive(Debug, Clone)]
pub(crate) struct Roster(Arc<[Arc<str>]>);

impl Roster {
    pub(crate) fn new(addresses: Vec<Arc<str>>) -> Self {
        Self(addresses.into())
    }

    pub(crate) fn addresses(&self) -> &[Arc<str>] {
        &self.0
    }

    /// The place of a server in the roster.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub(crate) fn place(&self, address: &str) -> usize {
        self.0.iter().position(|known| **known == *address).expect("the pool knows the servers of the roster only")
    }
}

/// The name of the server at that place of the roster.
pub(crate) fn name(place: usize) -> String {
    match u8::try_from(place) {
        Ok(letter @ 0..26) => char::from(b'A' + letter).into(),
        _ => format!("S{}", place + 1),
    }
}

/// Counts over some time.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Acquires, in nanoseconds from when the request was due to having the connection.
    pub(crate) acquire: Histogram<u64>,
    /// Acquires, in nanoseconds from the call of `acquire` to having the connection.
    pub(crate) call: Histogram<u64>,
    /// Right answers, by server.
    pub(crate) answered: Vec<u64>,
    /// Acquires that failed.
    pub(crate) failed: u64,
    /// Answers that were not the answer to their request.
    pub(crate) wrong: u64,
    /// Requests that met an error on their connection, and were sent again.
    pub(crate) io_errors: u64,
    /// Requests that had no answer in time, and were sent again.
    pub(crate) timeouts: u64,
}

impl Tally {
    fn new(roster: &Roster) -> Self {
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000_000, 2).expect("the bounds are in order");
        Self {
            acquire: histogram(),
            call: histogram(),
            answered: vec![0; roster.addresses().len()],
            failed: 0,
            wrong: 0,
            io_errors: 0,
            timeouts: 0,
        }
    }

    /// Moves the counts of `other` here.
    fn take_in(&mut self, other: &mut Self) {
        let Self { acquire, call, answered, failed, wrong, io_errors, timeouts } = other;
        for (mine, theirs) in [(&mut self.acquire, acquire), (&mut self.call, call)] {
            if !theirs.is_empty() {
                mine.add(&*theirs).expect("their bounds are the same");
                theirs.reset();
            }
        }
        for (mine, theirs) in self.answered.iter_mut().zip(answered) {
            *mine += mem::take(theirs);
        }
        self.failed += mem::take(failed);
        self.wrong += mem::take(wrong);
        self.io_errors += mem::take(io_errors);
        self.timeouts += mem::take(timeouts);
    }
}

/// Takes down what the tasks tell.
pub(crate) struct Recorder {
    shards: Vec<Mutex<Tally>>,
    empty: Tally,
    complaints: Mutex<Vec<String>>,
}

impl Recorder {
    pub(crate) fn new(roster: &Roster) -> Self {
        let empty = Tally::new(roster);
        let shards = (0..SHARDS).map(|_| Mutex::new(empty.clone())).collect();
        Self { shards, empty, complaints: Mutex::default() }
    }

    pub(crate) fn acquired(&self, task: usize, since_due: Duration, since_call: Duration) {
        let mut tally = self.tally(task);
        tally.acquire.saturating_record(nanos(since_due));
        tally.call.saturating_record(nanos(since_call));
    }

    pub(crate) fn acquire_failed(&self, task: usize, error: &dyn Error) {
        self.tally(task).failed += 1;
        let mut text = format!("an acquire failed: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        self.complain(|| text);
    }

    pub(crate) fn answered(&self, task: usize, server: usize) {
        self.tally(task).answered[server] += 1;
    }

    pub(crate) fn answered_wrong(&self, task: usize, server: &str, expected: &[u8], got: &[u8]) {
        self.tally(task).wrong += 1;
        self.complain(|| format!("{server} answered {} for {}", got.escape_ascii(), expected.escape_ascii()));
    }

    pub(crate) fn io_error(&self, task: usize) {
        self.tally(task).io_errors += 1;
    }

    pub(crate) fn timed_out(&self, task: usize) {
        self.tally(task).timeouts += 1;
    }

    /// The counts since the last drain.
    pub(crate) fn drain(&self) -> Tally {
        let mut sum = self.empty.clone();
        for shard in 0..SHARDS {
            sum.take_in(&mut self.tally(shard));
        }
        sum
    }

    /// The first few things that went wrong and must not.
    pub(crate) fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    fn tally(&self, task: usize) -> MutexGuard<'_, Tally> {
        lock(&self.shards[task % SHARDS])
    }

    fn complain(&self, text: impl FnOnce() -> String) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() < COMPLAINTS {
            complaints.push(text());
        }
    }
}

/// A short stretch of the run.
#[derive(Debug)]
pub(crate) struct Sample {
    /// From when to when, since the run began.
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// By server.
    pub(crate) requests_per_second: Vec<f64>,
    /// p50, p99, p99.9 and max of the acquires in nanoseconds, if there were any.
    pub(crate) acquire: Option<[u64; 4]>,
}

/// Something that happened to a server.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) at: Duration,
    /// Its place in the roster.
    pub(crate) server: usize,
    pub(crate) label: String,
}

/// The whole run.
pub(crate) struct Timeline {
    samples: Vec<Sample>,
    marks: Vec<Mark>,
    total: Tally,
    /// Since the last print of the table.
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

    /// Takes in what happened since the last sample.
    pub(crate) fn sample(&mut self, mut tally: Tally, to: Duration) {
        let from = self.samples.last().map_or(Duration::ZERO, |last| last.to);
        let seconds = (to - from).as_secs_f64();
        self.samples.push(Sample {
            from,
            to,
            requests_per_second: tally.answered.iter().map(|&count| count as f64 / seconds).collect(),
            acquire: (!tally.acquire.is_empty()).then(|| quantiles(&tally.acquire)),
        });
        self.total.take_in(&mut tally.clone());
        self.recent.take_in(&mut tally);
    }

    /// Takes in what happened after the last sample: it counts, but is not in the picture.
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

    /// What happened since this was last called, and how long that is.
    pub(crate) fn take_recent(&mut self) -> (Tally, Duration) {
        let to = self.samples.last().map_or(Duration::ZERO, |last| last.to);
        let span = to - mem::replace(&mut self.recent_from, to);
        (mem::replace(&mut self.recent, self.empty.clone()), span)
    }
}

/// p50, p99, p99.9 and max.
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
