//! Searches for an order of a history's steps that the specification allows and that keeps the order of
//! non-overlapping operations.
//!
//! This is the depth-first search of Wing and Gong ("Testing and Verifying Concurrent Objects", J. Parallel Distrib.
//! Comput., 1993). A step may come next if its operation was invoked before any unplaced operation returned. Lowe's
//! improvement ("Testing for linearizability", Concurrency Computat. Pract. Exper., 2017) is included: each
//! configuration, the set of placed steps and the resulting state, is searched once.
//!
//! A step that only observes the state is placed as soon as the state allows it. It changes nothing, so moving it
//! forward keeps any valid order valid.

use std::collections::HashSet;

use crate::history::{History, Operation};
use crate::specification::{State, Step, steps};

/// A set of steps, one bit for each.
type Set = u128;

struct Timed {
    invoked: u64,
    returned: u64,
    /// The index of the operation in the history.
    operation: usize,
    step: Step,
    /// The step of the same operation that comes before it.
    follows: Option<usize>,
}

struct Search<'a> {
    history: &'a History,
    steps: Vec<Timed>,
    seen: HashSet<(Set, State)>,
    /// The largest set of steps that could be placed, and the state after them.
    deepest: (Set, State),
}

/// Checks that a history is linearizable.
///
/// # Errors
///
/// Returns the longest order found, and the operations that cannot follow it.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let mut search = Search::new(history);
    if search.can_place_rest(0, &State::first(history)) { Ok(()) } else { Err(search.explain()) }
}

impl<'a> Search<'a> {
    fn new(history: &'a History) -> Self {
        let mut timed = Vec::new();
        for (operation, &Operation { invoked, returned, .. }) in history.operations.iter().enumerate() {
            let mut last = None;
            for step in steps(history, operation) {
                let follows = if matches!(step, Step::Observe(_)) { None } else { last.replace(timed.len()) };
                timed.push(Timed { invoked, returned, operation, step, follows });
            }
        }
        assert!(timed.len() < Set::BITS as usize, "too many steps: {}", timed.len());
        Self { history, steps: timed, seen: HashSet::new(), deepest: (0, State::first(history)) }
    }

    /// Returns whether the unplaced steps can follow the placed ones in some order.
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
        let allowed = |&index: &usize| match self.steps[index].step {
            Step::Observe(fact) => state.satisfies(self.history, fact),
            _ => false,
        };
        if let Some(index) = next.iter().copied().find(allowed) {
            return self.can_place_rest(placed | 1 << index, state);
        }
        next.into_iter().any(|index| {
            let after = state.after(self.history, &self.steps[index].step);
            after.is_some_and(|after| self.can_place_rest(placed | 1 << index, &after))
        })
    }

    /// Returns the steps that may come next: those of operations invoked before any unplaced operation returned, after
    /// those of the same operation that come before them.
    fn next(&self, placed: Set) -> Vec<usize> {
        let unplaced = || self.steps.iter().enumerate().filter(move |(index, _)| placed & (1 << index) == 0);
        let Some(bound) = unplaced().map(|(_, step)| step.returned).min() else { return Vec::new() };
        let is_next =
            |step: &Timed| step.invoked < bound && step.follows.is_none_or(|before| placed & (1 << before) != 0);
        unplaced().filter(|(_, step)| is_next(step)).map(|(index, _)| index).collect()
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
            "no valid order; the longest places {} of {} steps, and {state:?} allows none of these:\n  {}",
            placed.count_ones(),
            self.steps.len(),
            stuck.join("\n  ")
        )
    }
}

/// Searches without the two shortcuts of [`check`], to test them.
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
