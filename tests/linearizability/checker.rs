//! Searches for an order of a history's steps that the specification allows and that keeps the order of operations
//! which do not overlap.
//!
//! The depth-first search of Wing and Gong ("Testing and Verifying Concurrent Objects", J. Parallel Distrib. Comput.,
//! 1993): the next step is any of an operation that began before each unplaced one ended. As in Lowe's improvement
//! ("Testing for linearizability", Concurrency Computat. Pract. Exper., 2017), a configuration, the set of placed steps
//! with the state that they led to, is searched once.
//!
//! A step that only sees is placed as soon as it may be: it changes nothing, so that any order in which it comes later
//! stays an order when it is moved to the front.

use std::collections::HashSet;

use crate::history::{History, Operation};
use crate::specification::{State, Step, steps};

/// A bit for each step.
type Set = u128;

struct Timed {
    invoked: u64,
    returned: u64,
    /// Its place in the history.
    operation: usize,
    step: Step,
}

struct Search<'a> {
    history: &'a History,
    steps: Vec<Timed>,
    seen: HashSet<(Set, State)>,
    /// The most steps that could be placed, and the state after them.
    deepest: (Set, State),
}

/// Checks a history.
///
/// # Errors
///
/// The operations that no order could place, after as many as possible.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let mut search = Search::new(history);
    if search.can_place_rest(0, &State::first(history)) { Ok(()) } else { Err(search.explain()) }
}

impl<'a> Search<'a> {
    fn new(history: &'a History) -> Self {
        let mut timed = Vec::new();
        for (operation, &Operation { invoked, returned, .. }) in history.operations.iter().enumerate() {
            let steps = steps(history, &history.operations[operation]);
            timed.extend(steps.into_iter().map(|step| Timed { invoked, returned, operation, step }));
        }
        assert!(timed.len() < Set::BITS as usize, "{} steps are too many", timed.len());
        Self { history, steps: timed, seen: HashSet::new(), deepest: (0, State::first(history)) }
    }

    fn can_place_rest(&mut self, placed: Set, state: &State) -> bool {
        if placed.count_ones() > self.deepest.0.count_ones() {
            self.deepest = (placed, state.clone());
        }
        let next = self.next(placed);
        if next.is_empty() {
            return true;
        }
        if !self.seen.insert((placed, state.clone())) {
            return false;
        }
        let sees =
            |&index: &usize| matches!(self.steps[index].step, Step::See(sight) if state.sees(self.history, sight));
        if let Some(index) = next.iter().copied().find(sees) {
            return self.can_place_rest(placed | 1 << index, state);
        }
        next.into_iter().any(|index| {
            let after = state.after(self.history, &self.steps[index].step);
            after.is_some_and(|after| self.can_place_rest(placed | 1 << index, &after))
        })
    }

    /// The steps of which one may be the next: of operations that began before any unplaced one ended.
    fn next(&self, placed: Set) -> Vec<usize> {
        let unplaced = || self.steps.iter().enumerate().filter(move |(index, _)| placed & (1 << index) == 0);
        let Some(bound) = unplaced().map(|(_, step)| step.returned).min() else { return Vec::new() };
        unplaced().filter(|(_, step)| step.invoked < bound).map(|(index, _)| index).collect()
    }

    fn explain(&self) -> String {
        let (placed, state) = &self.deepest;
        let stuck = self.next(*placed).into_iter().map(|index| {
            let Timed { operation, ref step, .. } = self.steps[index];
            let Operation { thread, action, .. } = self.history.operations[operation];
            format!("thread {thread}, {action}: {step:?}")
        });
        let stuck: Vec<_> = stuck.collect();
        format!(
            "no order is allowed; the longest places {} of {} steps, and at {state:?} none of these is allowed:\n  {}",
            placed.count_ones(),
            self.steps.len(),
            stuck.join("\n  ")
        )
    }
}

/// The same search without its two shortcuts, to test them.
pub(crate) fn check_slowly(history: &History) -> bool {
    fn can_place(search: &Search<'_>, placed: Set, state: &State) -> bool {
        let next = search.next(placed);
        let place = |index: usize| {
            let after = state.after(search.history, &search.steps[index].step);
            after.is_some_and(|after| can_place(search, placed | 1 << index, &after))
        };
        next.is_empty() || next.into_iter().any(place)
    }
    can_place(&Search::new(history), 0, &State::first(history))
}
