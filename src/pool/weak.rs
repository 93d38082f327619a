//! A handle that does not keep its pool open.

use std::fmt;

use super::{Last, Pool};
use crate::connector::Connector;
use crate::sync::Weak;

/// A handle of a pool that does not keep it open, from [`Pool::downgrade`]: for exporters, health pages and other tasks
/// that outlive no pool.
pub struct WeakPool<C: Connector> {
    last: Weak<Last<C>>,
}

impl<C: Connector> WeakPool<C> {
    pub(super) fn new(last: Weak<Last<C>>) -> Self {
        Self { last }
    }

    /// Returns the pool, unless its last [`Pool`] was dropped. It may be closed.
    ///
    /// What is returned keeps the pool open: drop it soon.
    pub fn upgrade(&self) -> Option<Pool<C>> {
        self.last.upgrade().map(Pool::from_last)
    }
}

impl<C: Connector> Clone for WeakPool<C> {
    fn clone(&self) -> Self {
        Self { last: Weak::clone(&self.last) }
    }
}

impl<C: Connector> fmt::Debug for WeakPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakPool").finish_non_exhaustive()
    }
}
