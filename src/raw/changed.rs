//! Whether something has changed since a task last looked at it.
//!
//! # Protocol
//!
//! One flag. A thread makes its change, then notes it. A task takes the flag; if it was set, it looks at everything.
//!
//! # Invariants
//!
//! - I1: the look after the last take that found the flag set sees each change whose note came before that take. A
//!   later note is found by the next take.
//! - I2: a thread that notes a change sees what those changed whose notes came before.
//!
//! # Orderings
//!
//! Read-modify-writes, all AcqRel: each is in one order with the others and sees what came before those. A plain store
//! would hide the note before it: the take that reads the store sees the changes of that thread alone.

use crate::sync::{AtomicBool, Ordering};

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    flag: AtomicBool,
}

impl Changed {
    /// Something has changed.
    pub(crate) fn note(&self) {
        // AcqRel: pairs with itself and with that of `take`.
        self.flag.swap(true, Ordering::AcqRel);
    }

    /// Whether something has changed since the last time. The caller then looks.
    pub(crate) fn take(&self) -> bool {
        // AcqRel: pairs with that of `note`.
        self.is_noted() && self.flag.swap(false, Ordering::AcqRel)
    }

    /// Whether the next `take` finds something. A hint.
    pub(crate) fn is_noted(&self) -> bool {
        // Relaxed: a hint; a change is noted, and then the task is woken.
        self.flag.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::Changed;

    #[test]
    fn a_note_is_taken_once() {
        let changed = Changed::default();
        assert!(!changed.is_noted() && !changed.take());
        changed.note();
        changed.note();
        assert!(changed.is_noted() && changed.take());
        assert!(!changed.is_noted() && !changed.take());
    }
}
