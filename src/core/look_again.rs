//! Has the background task look at a server: at a time, or when what runs there has ended.

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::raw::Time;
use crate::server::Generation;
use crate::sync::{Arc, Ordering, fence};

/// Has the background task look at a server that may lack idle connections now.
pub(crate) fn look_again<C: Connector>(shared: &Shared<C>, generation: &Generation<C>) {
    if shared.settings.min_idle() > 0 {
        look_at(shared, generation, shared.clock.time());
    }
}

/// Has the background task look at a server at a time.
pub(crate) fn look_at<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, at: Time) {
    // SeqCst: the change of the breaker or the health, then the number. Pairs with the fence of `ServerSet::refresh`.
    // If the server is being registered again, either this thread reads its new number, or that one reads the change.
    fence(Ordering::SeqCst);
    shared.due_times.push(at, generation.server.number());
    shared.notifier.wake_before(at);
}

/// When dropped, wakes warm-ups, and has the background task look at the server: what runs there has ended, and what it
/// lacks may start.
pub(crate) struct LookAtEnd<C: Connector> {
    pub(crate) generation: Arc<Generation<C>>,
    pub(crate) shared: Arc<Shared<C>>,
}

impl<C: Connector> LookAtEnd<C> {
    pub(crate) fn of(shared: &Arc<Shared<C>>, generation: &Arc<Generation<C>>) -> Self {
        Self { generation: Arc::clone(generation), shared: Arc::clone(shared) }
    }
}

impl<C: Connector> Drop for LookAtEnd<C> {
    fn drop(&mut self) {
        self.shared.notifier.attempt_ended.notify_waiters();
        look_again(&self.shared, &self.generation);
    }
}
