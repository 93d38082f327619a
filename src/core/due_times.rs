//! When the background task must look at servers.
//!
//! A server that goes down, pauses or recovers is pushed with the time at which that ends. Entries are not removed when
//! they become outdated: each is checked against the server's own words when it is read.

use std::collections::{BTreeSet, VecDeque};

use crate::raw::Time;
use crate::sync::{Mutex, lock};

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct DueTimes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Times, and server numbers.
    times: BTreeSet<(Time, usize)>,
    /// The servers whose probe is due, and waits for a caller or for its turn.
    ready: VecDeque<usize>,
    /// The servers whose probe is due, and waits for a permit.
    full: Vec<usize>,
    /// Those in `ready` or `full`: each is there once.
    queued: BTreeSet<usize>,
    /// The server that the background task has taken, until it takes the next: it may be in none of the above.
    taken: Option<usize>,
    /// In a total outage: when the next server is probed ahead of its time, if callers wait.
    ahead: Time,
    /// How many callers of `acquire_now` came while a probe was due, and for how many of them the probes were started.
    /// Only these are counted: other callers stay in the wait queue, where the background task sees them.
    callers: u64,
    heard: u64,
}

impl DueTimes {
    /// The background task must look at a server at that time.
    pub(crate) fn push(&self, at: Time, number: usize) {
        lock(&self.state).times.insert((at, number));
    }

    /// Takes a server whose time has come.
    pub(crate) fn pop(&self, now: Time) -> Option<usize> {
        let mut state = lock(&self.state);
        let due = state.times.first().copied().filter(|&(at, _)| at <= now);
        state.taken = due.map(|(_, number)| number);
        if let Some(due) = due {
            state.times.remove(&due);
        }
        state.taken
    }

    /// The first time of all.
    pub(crate) fn next(&self) -> Time {
        lock(&self.state).times.first().map_or(Time::NEVER, |&(at, _)| at)
    }

    /// Takes the server whose probe has been due for longest.
    pub(crate) fn pop_ready(&self) -> Option<usize> {
        let mut state = lock(&self.state);
        state.taken = state.ready.pop_front();
        if let Some(number) = state.taken {
            state.queued.remove(&number);
        }
        state.taken
    }

    /// The probe of a server is due, after those that are due already.
    pub(crate) fn add_ready(&self, number: usize) {
        let mut state = lock(&self.state);
        if state.queued.insert(number) {
            state.ready.push_back(number);
        }
    }

    /// The probe of a server must wait. It stays ahead of the others.
    pub(crate) fn postpone(&self, number: usize) {
        let mut state = lock(&self.state);
        state.taken = None;
        if state.queued.insert(number) {
            state.ready.push_front(number);
        }
    }

    /// The probe of a server must wait for a permit: the release of one wakes the background task.
    pub(crate) fn add_full(&self, number: usize) {
        let mut state = lock(&self.state);
        if state.queued.insert(number) {
            state.full.push(number);
        }
    }

    /// The servers that waited for a permit are looked at again, ahead of the others.
    pub(crate) fn ready_full(&self) {
        let mut state = lock(&self.state);
        let State { ready, full, .. } = &mut *state;
        full.drain(..).for_each(|number| ready.push_front(number));
    }

    /// Whether a server is due, or will be by `now`, or is about to be looked at.
    pub(crate) fn has_due(&self, now: Time) -> bool {
        let state = lock(&self.state);
        state.taken.is_some() || !state.ready.is_empty() || state.times.first().is_some_and(|&(at, _)| at <= now)
    }

    /// A caller of `acquire_now` waits for the probes that are due by now.
    pub(crate) fn note_caller(&self) {
        lock(&self.state).callers += 1;
    }

    /// How many such callers came, if the probes were not started for all of them.
    pub(crate) fn unheard_callers(&self) -> Option<u64> {
        let state = lock(&self.state);
        (state.callers > state.heard).then_some(state.callers)
    }

    /// The probes were started for the first so many of these callers.
    pub(crate) fn hear_callers(&self, callers: u64) {
        lock(&self.state).heard = callers;
    }

    /// When the next server is probed ahead of its time, in a total outage with waiters.
    pub(crate) fn ahead(&self) -> Time {
        lock(&self.state).ahead
    }

    /// A total outage began: the next server is probed ahead of its time at `at`, or earlier if that was set before. So
    /// changes of the set of servers do not put it off again and again.
    pub(crate) fn bring_ahead(&self, now: Time, at: Time) {
        let ahead = &mut lock(&self.state).ahead;
        *ahead = if now < *ahead && *ahead < at { *ahead } else { at };
    }

    /// The next server is probed ahead of its time at `at`.
    pub(crate) fn set_ahead(&self, at: Time) {
        lock(&self.state).ahead = at;
    }

    /// The earliest time at which connecting to a server resumes: `resumes_at` gives that of one server. It skips an
    /// entry whose server resumes later, since there is another for that time. For a server that is taken it is now: it
    /// is about to be tried.
    pub(crate) fn earliest(&self, now: Time, resumes_at: impl Fn(usize) -> Option<Time>) -> Option<Time> {
        let state = lock(&self.state);
        let own = |(at, number): (Time, usize)| resumes_at(number).filter(|&own| own <= at);
        let of_taken = state.taken.map(|_| now);
        let of_ready = || state.ready.iter().chain(&state.full).filter_map(|&number| resumes_at(number));
        // Usually the first is due, and there is no need to look at all.
        let of_ready = of_ready().find(|&at| at <= now).or_else(|| of_ready().min());
        let of_times = state.times.iter().copied().find_map(own);
        [of_taken, of_ready, of_times].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::{DueTimes, Time};

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn servers_come_in_the_order_of_their_times() {
        let due = DueTimes::default();
        for (time, number) in [(30, 3), (10, 1), (20, 2)] {
            due.push(at(time), number);
        }
        assert_eq!((due.pop(at(9)), due.next(), due.has_due(at(9))), (None, at(10), false));
        assert_eq!([due.pop(at(20)), due.pop(at(20)), due.pop(at(20))], [Some(1), Some(2), None]);
        due.add_ready(1);
        due.add_ready(2);
        due.postpone(4);
        due.add_ready(4);
        due.add_ready(1);
        assert!(due.has_due(at(0)));
        assert_eq!([(); 4].map(|()| due.pop_ready()), [Some(4), Some(1), Some(2), None]);
    }

    #[test]
    fn another_outage_puts_no_retry_off() {
        let due = DueTimes::default();
        let ahead = |now, then| {
            due.bring_ahead(at(now), at(then));
            due.ahead()
        };
        assert_eq!([ahead(0, 10), ahead(5, 15), ahead(9, 12)], [at(10); 3]);
        assert_eq!(ahead(12, 22), at(22), "the last one was made");
        due.set_ahead(at(90));
        assert_eq!(ahead(30, 40), at(40));
    }

    #[test]
    fn the_earliest_time_is_that_of_a_server_that_has_one_still() {
        let due = DueTimes::default();
        for (time, number) in [(10, 1), (20, 2), (30, 3)] {
            due.push(at(time), number);
        }
        let resumes_at = |number: usize| [None, None, Some(at(25)), Some(at(30))][number];
        assert_eq!(due.earliest(at(5), resumes_at), Some(at(30)), "the time of the second is another entry's");
        due.push(at(25), 2);
        assert_eq!(due.earliest(at(5), resumes_at), Some(at(25)));
        due.add_ready(0);
        assert_eq!(due.earliest(at(5), |number| (number == 0).then_some(at(5))), Some(at(5)), "one that is ready");
        assert_eq!(due.earliest(at(5), |_| None), None);
        assert_eq!(due.pop_ready(), Some(0));
        due.add_full(4);
        assert_eq!(due.earliest(at(5), |number| (number == 4).then_some(at(5))), Some(at(5)), "one without a permit");
        assert_eq!(due.pop_ready(), None);
        due.add_ready(4);
        assert_eq!(due.pop_ready(), None, "it waits for a permit");
        due.ready_full();
        assert_eq!((due.pop_ready(), due.pop_ready()), (Some(4), None));
    }

    #[test]
    fn a_server_that_is_taken_is_about_to_be_tried() {
        let due = DueTimes::default();
        due.push(at(10), 1);
        let earliest = || due.earliest(at(10), |number| [None, Some(at(99)), Some(at(10))][number]);
        assert_eq!((due.pop(at(10)), earliest()), (Some(1), Some(at(10))), "before it is ready");
        assert!(due.has_due(at(10)), "a caller that comes now waits for its probe");
        due.add_ready(1);
        assert_eq!((due.pop(at(10)), earliest()), (None, Some(at(99))));
        due.add_ready(2);
        assert_eq!(earliest(), Some(at(10)), "the first one is outdated");
        assert_eq!((due.pop_ready(), due.pop_ready(), earliest()), (Some(1), Some(2), Some(at(10))));
        assert!(due.has_due(at(10)), "until the next is taken");
        due.postpone(1);
        assert_eq!(earliest(), Some(at(99)));
        assert_eq!((due.pop_ready(), due.pop_ready(), earliest()), (Some(1), None, None));
        assert!(!due.has_due(at(10)));
    }
}
