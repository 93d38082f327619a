//! A set of server numbers: an atomic bitmap. The pool has three: the servers that callers may use (the up set), those
//! that serve in a tier that is not in use, and those that may have open connections.
//!
//! # Protocol
//!
//! A bit caches a condition computed from other atomics: whether callers may use a server, for instance.
//! Each change of the condition is followed by [`ServerSet::refresh`]: read the condition, set the bit, fence, read it
//! again, and repeat if it has changed.
//!
//! # Invariants
//!
//! - I1: when the last `refresh` of a server has returned, its bit is the condition: the last one to write the bit
//!   sees, when it reads again, each change whose `refresh` wrote before it.
//! - I2: bits beyond the capacity are never set; [`ServerSet::next_from`] returns each set bit of a quiet set in turn.
//!
//! # Orderings
//!
//! - The bits are written by AcqRel read-modify-writes: each acquires the changes that preceded the earlier writes.
//!   After a Relaxed write, another thread could read the bit, but not yet the change before it, and miss that change
//!   when it reads the condition again.
//! - The SeqCst fence after the write orders the change before later loads of the thread that calls `refresh`: of the
//!   list, where a larger bitmap may have replaced this one, and of an idle queue or the permits, for a server that has
//!   just gone down.
//! - The bits publish nothing else: loads of them are Relaxed.

use crate::sync::{AtomicU64, Ordering, fence};

const BITS: usize = u64::BITS as usize;

/// Positions from here on are no numbers: `ANYWHERE + n` stands for the n-th number of the set, modulo the size of the
/// set, in [`ServerSet::next_from`]. So a random start is uniform over a set of any size.
pub(crate) const ANYWHERE: usize = 1 << 31;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct ServerSet {
    words: Box<[AtomicU64]>,
}

impl ServerSet {
    /// An empty set with room for the numbers below `capacity`, rounded up to 64.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { words: (0..capacity.div_ceil(BITS).max(1)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A copy with more room. It misses what a `refresh` of this set changes meanwhile: each number must be refreshed
    /// once the copy has replaced this set.
    pub(crate) fn grown(&self, capacity: usize) -> Self {
        let grown = Self::new(capacity);
        for index in 0..self.words.len() {
            // Relaxed: no other thread has the new set yet.
            grown.words[index].store(self.word(index), Ordering::Relaxed);
        }
        grown
    }

    /// All numbers in the set are below this.
    pub(crate) fn capacity(&self) -> usize {
        self.words.len() * BITS
    }

    fn word(&self, index: usize) -> u64 {
        // Relaxed: see the module's page.
        self.words[index].load(Ordering::Relaxed)
    }

    /// The words that are not zero. Passing over the others costs a load each: of thousands of servers that are down,
    /// every refusal passes over all words.
    fn filled(&self) -> impl Iterator<Item = u64> + '_ {
        // Relaxed: see the module's page.
        self.words.iter().map(|word| word.load(Ordering::Relaxed)).filter(|&word| word != 0)
    }

    /// Sets the bit of `number` to `condition` (I1). Returns whether it was changed.
    pub(crate) fn refresh(&self, number: usize, condition: impl Fn() -> bool) -> bool {
        let (mut is_in, mut is_changed) = (condition(), false);
        loop {
            is_changed |= self.set(number, is_in);
            // SeqCst: the change before, then later loads; pairs with a SeqCst push and the SeqCst load after it.
            fence(Ordering::SeqCst);
            let now = condition();
            if now == is_in {
                return is_changed;
            }
            is_in = now;
        }
    }

    /// Sets the bit of `number`. A `refresh` must follow. Returns whether it was changed.
    pub(crate) fn set(&self, number: usize, is_in: bool) -> bool {
        let (word, bit) = (&self.words[number / BITS], 1 << (number % BITS));
        // AcqRel: pairs with itself in another `refresh`: releases the change before it, acquires earlier ones (I1).
        let before = if is_in { word.fetch_or(bit, Ordering::AcqRel) } else { word.fetch_and(!bit, Ordering::AcqRel) };
        (before & bit != 0) != is_in
    }

    #[inline(always)]
    pub(crate) fn contains(&self, number: usize) -> bool {
        // Relaxed: see the module's page.
        self.words.get(number / BITS).is_some_and(|word| word.load(Ordering::Relaxed) >> (number % BITS) & 1 != 0)
    }

    /// The first number in the set at or after `at`, or, if there is none, the first of all.
    #[inline(always)]
    pub(crate) fn next_from(&self, at: usize) -> Option<usize> {
        // Relaxed: see the module's page.
        let rest = self.words.get(at / BITS).map_or(0, |word| word.load(Ordering::Relaxed) >> (at % BITS));
        Some(if rest & 1 != 0 {
            // The usual case. A processor that predicts it goes on with `at` before the word is loaded.
            at
        } else if rest != 0 {
            at + rest.trailing_zeros() as usize
        } else {
            self.next_beyond(at)?
        })
    }

    /// The first number in the words after that of `at`, else in those up to it.
    #[cold]
    fn next_beyond(&self, at: usize) -> Option<usize> {
        if at >= ANYWHERE {
            return self.nth(at - ANYWHERE);
        }
        let mut index = at / BITS;
        for _ in 0..self.words.len() {
            index = if index + 1 < self.words.len() { index + 1 } else { 0 };
            let word = self.word(index);
            if word != 0 {
                return Some(index * BITS + word.trailing_zeros() as usize);
            }
        }
        None
    }

    /// The n-th number of the set, modulo the size of the set. Out of line of `next_beyond`, which needs few registers.
    #[inline(never)]
    pub(crate) fn nth(&self, n: usize) -> Option<usize> {
        let mut left = n.checked_rem(self.len())?;
        for index in 0..self.words.len() {
            let mut word = self.word(index);
            let ones = word.count_ones() as usize;
            if left < ones {
                for _ in 0..left {
                    word &= word - 1;
                }
                return Some(index * BITS + word.trailing_zeros() as usize);
            }
            left -= ones;
        }
        // Only if the set shrinks meanwhile.
        self.iter_from(0).next()
    }

    /// Another number of the set than `number`, the one that `draw` falls on; `number` if there is no other.
    pub(crate) fn other(&self, number: usize, draw: usize) -> Option<usize> {
        let before: usize = (0..number / BITS).map(|index| self.word(index).count_ones() as usize).sum();
        let before = before + (self.word(number / BITS) & !(u64::MAX << (number % BITS))).count_ones() as usize;
        self.nth(before + 1 + draw % (self.len().max(2) - 1))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled().next().is_none()
    }

    /// How many numbers are in the set.
    pub(crate) fn len(&self) -> usize {
        self.filled().map(|word| word.count_ones() as usize).sum()
    }

    /// The numbers in the set from `at` on, then those before it: each once, if it stays in the set.
    pub(crate) fn iter_from(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.len();
        let (mut index, shift) = if at < self.capacity() { (at / BITS, at % BITS) } else { (0, 0) };
        // The word of `at` comes twice: its upper part first, its lower part last.
        let (upper, lower) = (u64::MAX << shift, !(u64::MAX << shift));
        let mut rest = self.word(index) & upper;
        let mut left = words;
        core::iter::from_fn(move || {
            while rest == 0 {
                left = left.checked_sub(1)?;
                index = if index + 1 < words { index + 1 } else { 0 };
                rest = self.word(index) & if left == 0 { lower } else { u64::MAX };
            }
            let bit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some(index * BITS + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::ServerSet;

    fn set(capacity: usize, numbers: &[usize]) -> ServerSet {
        let set = ServerSet::new(capacity);
        for &number in numbers {
            assert!(set.refresh(number, || true) && !set.refresh(number, || true), "{number} is changed once");
        }
        set
    }

    #[test]
    fn next_wraps_around_and_skips_what_is_not_in() {
        let set = set(200, &[3, 64, 130, 191]);
        for (at, next) in [(0, 3), (3, 3), (4, 64), (64, 64), (65, 130), (131, 191), (192, 3), (1_000, 3)] {
            assert_eq!(set.next_from(at), Some(next), "from {at}");
        }
        for (at, next) in [(0, 3), (1, 64), (3, 191), (4, 3), (11, 191)] {
            assert_eq!([set.next_from(super::ANYWHERE + at), set.nth(at)], [Some(next); 2], "anywhere {at}");
        }
        for (number, others) in [(3, [64, 130, 191]), (130, [191, 3, 64]), (191, [3, 64, 130])] {
            assert_eq!([0, 1, 5].map(|draw| set.other(number, draw)), others.map(Some), "other than {number}");
        }
        set.refresh(3, || false);
        assert_eq!((set.next_from(0), set.len(), set.contains(3)), (Some(64), 3, false));
        assert_eq!([7, super::ANYWHERE].map(|at| ServerSet::new(0).next_from(at)), [None, None]);
    }

    #[test]
    fn iterates_over_each_number_once_from_any_start() {
        let numbers = [0, 3, 63, 64, 100, 127, 128, 191];
        let set = set(192, &numbers);
        for at in 0..200 {
            let mut expected = numbers.to_vec();
            let cut = if at < 192 { numbers.iter().filter(|&&number| number < at).count() } else { 0 };
            expected.rotate_left(cut);
            assert_eq!(set.iter_from(at).collect::<Vec<_>>(), expected, "from {at}");
        }
    }

    #[test]
    fn a_set_that_grows_keeps_its_numbers() {
        let grown = set(100, &[3, 64, 127]).grown(200);
        assert_eq!((grown.capacity(), grown.iter_from(0).collect()), (256, vec![3, 64, 127]));
    }

    #[test]
    fn refresh_repeats_until_the_bit_is_the_condition() {
        let set = ServerSet::new(64);
        let looks = Cell::new(0);
        let condition = || {
            looks.set(looks.get() + 1);
            looks.get() < 4 && looks.get() != 2
        };
        set.refresh(5, condition);
        assert_eq!((looks.get(), set.contains(5), set.is_empty()), (5, false, true));
    }
}
