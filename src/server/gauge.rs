//! Counts that rise and fall.

use crate::sync::{AtomicU16, AtomicU32, Ordering};

macro_rules! gauge {
    ($(#[$doc:meta])* $name:ident, $word:ty) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name($word);

        impl $name {
            pub(crate) fn get(&self) -> u32 {
                // Relaxed: a hint; what changes it wakes those that look.
                u32::from(self.0.load(Ordering::Relaxed))
            }

            /// Counts one that begins or ends.
            pub(crate) fn count(&self, begins: bool) {
                // Relaxed: as in `get`.
                match begins {
                    true => self.0.fetch_add(1, Ordering::Relaxed),
                    false => self.0.fetch_sub(1, Ordering::Relaxed),
                };
            }
        }
    };
}

gauge!(
    /// Of connections.
    Gauge,
    AtomicU32
);
gauge!(
    /// Of attempts at one server: at most 65 535 run at once.
    SmallGauge,
    AtomicU16
);
