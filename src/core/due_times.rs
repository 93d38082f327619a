//! The due times: when a server that is down is probed, and when connecting to a paused one resumes.
//!
//! Each server that goes down or pauses is pushed with its time. An outdated entry stays: its reader checks it against
//! the server's own words.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::sync::{Mutex, lock};

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct DueTimes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Times in nanoseconds, and server numbers.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    /// The servers that are due and wait for a caller or a permit.
    ready: Vec<usize>,
}

impl DueTimes {
    /// Adds a server that is due at `at_ns`.
    pub(crate) fn push(&self, at_ns: u64, number: usize) {
        lock(&self.state).heap.push(Reverse((at_ns, number)));
    }

    /// Makes the servers that are due ready. Returns whether any is ready, and the next due time.
    pub(crate) fn make_ready(&self, now_ns: u64) -> (bool, u64) {
        let State { heap, ready } = &mut *lock(&self.state);
        while let Some(&Reverse((at_ns, number))) = heap.peek() {
            if at_ns > now_ns {
                return (!ready.is_empty(), at_ns);
            }
            heap.pop();
            ready.push(number);
        }
        (!ready.is_empty(), u64::MAX)
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
    pub(crate) fn earliest(&self, resumes_at: impl Fn(usize) -> Option<u64>) -> Option<u64> {
        let State { heap, ready } = &mut *lock(&self.state);
        let of_ready = ready.iter().filter_map(|&number| resumes_at(number)).min();
        while let Some(&Reverse((at_ns, number))) = heap.peek() {
            match resumes_at(number) {
                Some(own) if own <= at_ns => return of_ready.into_iter().chain([own]).min(),
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
    use super::DueTimes;

    #[test]
    fn collects_the_servers_whose_time_has_come() {
        let due = DueTimes::default();
        for (at, number) in [(30, 3), (10, 1), (20, 2)] {
            due.push(at, number);
        }
        assert_eq!(due.make_ready(9), (false, 10));
        assert_eq!(due.make_ready(20), (true, 30));
        assert_eq!(due.take_ready(), [1, 2]);
        due.put_back(vec![2]);
        assert_eq!(due.make_ready(40), (true, u64::MAX));
        assert_eq!(due.take_ready(), [2, 3]);
    }

    #[test]
    fn the_earliest_time_is_that_of_a_server_that_has_one_still() {
        let due = DueTimes::default();
        for (at, number) in [(10, 1), (20, 2), (30, 3)] {
            due.push(at, number);
        }
        let resumes_at = |number| [None, None, Some(25), Some(30)][number];
        assert_eq!(due.earliest(resumes_at), Some(25));
        assert_eq!(due.make_ready(25), (true, 30));
        assert_eq!(due.earliest(resumes_at), Some(25), "one that is ready");
        assert_eq!(due.earliest(|_| None), None);
    }
}
