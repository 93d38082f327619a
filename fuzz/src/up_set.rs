//! Compares the up set with a `BTreeSet`: the same numbers, the same next number from any position, the same order of
//! iteration from any start.

use std::cell::Cell;
use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::{ANYWHERE, ServerSet};

const MAX_CAPACITY: u16 = 400;
const MAX_OPS: usize = 300;

#[derive(Debug, Arbitrary)]
struct Case {
    capacity: u16,
    ops: Vec<Op>,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Insert(u16),
    Remove(u16),
    /// Inserts adjacent numbers, also across words.
    InsertRun(u16, u8),
    RemoveRun(u16, u8),
    /// The fact changes between its reads: these are the values read, and the last one remains.
    Refresh(u16, Vec<bool>),
    NextFrom(u16),
    /// Starts from a position beyond all numbers.
    NextFromAnywhere(u32),
    IterFrom(u16),
}

struct Run {
    set: ServerSet,
    model: BTreeSet<usize>,
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let capacity = usize::from(case.capacity % MAX_CAPACITY);
    let mut run = Run { set: ServerSet::new(capacity), model: BTreeSet::new() };
    assert_eq!(run.set.capacity(), capacity.max(1).next_multiple_of(64));
    for op in case.ops.into_iter().take(MAX_OPS) {
        run.step(op);
        run.check();
    }
}

impl Run {
    fn number(&self, number: u16) -> usize {
        usize::from(number) % self.set.capacity()
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Insert(number) => self.refresh(number, &[true]),
            Op::Remove(number) => self.refresh(number, &[false]),
            Op::InsertRun(number, count) => self.refresh_run(number, count, true),
            Op::RemoveRun(number, count) => self.refresh_run(number, count, false),
            Op::Refresh(number, reads) => self.refresh(number, &reads),
            Op::NextFrom(at) => self.check_next(at.into()),
            Op::NextFromAnywhere(at) => self.check_next(ANYWHERE + at as usize),
            Op::IterFrom(at) => self.check_iter(at.into()),
        }
    }

    fn refresh_run(&mut self, number: u16, count: u8, is_in: bool) {
        (0..count.into()).for_each(|step| self.refresh(number.wrapping_add(step), &[is_in]));
    }

    /// Checks that `refresh` ends after two equal reads in a row and sets the bit to that value.
    fn refresh(&mut self, number: u16, reads: &[bool]) {
        let number = self.number(number);
        let read = |index: usize| reads.get(index).or(reads.last()).copied().unwrap_or_default();
        let count = Cell::new(0);
        let is_changed = self.set.refresh(number, || read(count.replace(count.get() + 1)));
        let last = (1..).find(|&index| read(index) == read(index - 1)).expect("the last value remains");
        assert_eq!(count.get(), last + 1, "reads of {reads:?}");
        assert_eq!(is_changed, self.model.contains(&number) != read(0) || last > 1, "{reads:?}");
        if read(last) {
            self.model.insert(number);
        } else {
            self.model.remove(&number);
        }
    }

    fn check_next(&self, at: usize) {
        let expected = match at.checked_sub(ANYWHERE) {
            Some(turn) => self.model.iter().nth(turn % self.model.len().max(1)),
            None => self.model.range(at..).next().or(self.model.first()),
        };
        assert_eq!(self.set.next_from(at), expected.copied(), "from {at}");
    }

    fn check_iter(&self, at: usize) {
        let start = if at < self.set.capacity() { at } else { 0 };
        let expected = self.model.range(start..).chain(self.model.range(..start)).copied();
        assert!(self.set.iter_from(at).eq(expected), "from {at}");
    }

    fn check(&self) {
        assert_eq!((self.set.len(), self.set.is_empty()), (self.model.len(), self.model.is_empty()));
        // Checks from the start, and around the end of the set.
        let last = self.model.last().map_or(0, |last| last + 1);
        for at in [0, last] {
            self.check_next(at);
            self.check_iter(at);
        }
    }
}
