//! The due times: when a server that is down is probed, and when connecting to a paused one resumes.
//!
//! Each server that goes down or pauses is pushed with its time. An outdated entry stays: its reader checks it against
//! the server's own words.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::raw::Time;
use crate::sync::{Mutex, lock};

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct DueTimes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Due times and server numbers.
    heap: BinaryHeap<Reverse<(Time, usize)>>,
    /// The servers that are due and wait for a caller or a permit.
    ready: Vec<usize>,
}

impl DueTimes {
    /// Adds a server that is due at a time.
    pub(crate) fn push(&self, at: Time, number: usize) {
        lock(&self.state).heap.push(Reverse((at, number)));
    }

    /// Makes the servers that are due ready. Returns whether any is ready, and the next due time.
    pub(crate) fn make_ready(&self, now: Time) -> (bool, Time) {
        let State { heap, ready } = &mut *lock(&self.state);
        while let Some(&Reverse((at, number))) = heap.peek() {
            if at > now {
                return (!ready.is_empty(), at);
            }
            heap.pop();
            ready.push(number);
        }
        (!ready.is_empty(), Time::NEVER)
    }

    /// Takes the servers that are ready.
    pub(crate) fn take_ready(&self) -> Vec<usize> {
        std::mem::take(&mut lock(&self.state).ready)
    }

    /// Puts back servers that could not be tried yet.
    pub(crate) fn put_back(&self, numbers: Vec<usize>) {
        if !numbers.is_empty() {
            lock(&self.state).ready.extend(numbers);
        }
    }

    /// The earliest time at which connecting to a server resumes, by `resumes_at`, which reads a server's own words.
    pub(crate) fn earliest(&self, resumes_at: impl Fn(usize) -> Option<Time>) -> Option<Time> {
        let State { heap, ready } = &mut *lock(&self.state);
        let of_ready = ready.iter().filter_map(|&number| resumes_at(number)).min();
        while let Some(&Reverse((at, number))) = heap.peek() {
            match resumes_at(number) {
                Some(own) if own <= at => return of_ready.into_iter().chain([own]).min(),
                Some(own) => {
                    heap.pop();
                    heap.push(Reverse((own, number)));
                }
                None => {
                    heap.pop();
                }
            }
        }
        of_ready
    }
}

#[cfg(test)]
mod tests {
    use super::{DueTimes, Time};

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn collects_the_servers_whose_time_has_come() {
        let due = DueTimes::default();
        for (nanos, number) in [(30, 3), (10, 1), (20, 2)] {
            due.push(at(nanos), number);
        }
        assert_eq!(due.make_ready(at(9)), (false, at(10)));
        assert_eq!(due.make_ready(at(20)), (true, at(30)));
        assert_eq!(due.take_ready(), [1, 2]);
        due.put_back(vec![2]);
        assert_eq!(due.make_ready(at(40)), (true, Time::NEVER));
        assert_eq!(due.take_ready(), [2, 3]);
    }

    #[test]
    fn the_earliest_time_is_that_of_a_server_that_has_one_still() {
        let due = DueTimes::default();
        for (nanos, number) in [(10, 1), (20, 2), (30, 3)] {
            due.push(at(nanos), number);
        }
        let resumes_at = |number| [None, None, Some(at(25)), Some(at(30))][number];
        assert_eq!(due.earliest(resumes_at), Some(at(25)));
        assert_eq!(due.make_ready(at(25)), (true, at(30)));
        assert_eq!(due.earliest(resumes_at), Some(at(25)), "one that is ready");
        assert_eq!(due.earliest(|_| None), None);
    }
}
