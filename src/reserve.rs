//! `acquire_now`: an idle connection, else dials reserved for the caller.

use std::future::poll_fn;
use std::task::Poll;

use crate::clock::nanos;
use crate::connector::Connector;
use crate::dial::Reason;
use crate::error::AcquireError;
use crate::raw::{Line, Place};
use crate::server::{Entry, Grant, Ring};
use crate::sync::{Arc, AtomicUsize, Ordering};

/// What a caller of `acquire_now` and its dials share: a line for one.
pub(crate) struct Reservation<C: Connector> {
    line: Line<Grant<C>>,
    /// Dials under way. A plain counter, raised before a dial starts, lowered when it has failed.
    pending: AtomicUsize,
}

impl<C: Connector> Reservation<C> {
    /// A dial begins.
    pub(crate) fn begin(&self) {
        // Relaxed: only the caller, who is also the one to begin dials, reads it for more than a hint.
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Dials under way.
    fn pending(&self) -> usize {
        // Acquire: pairs with the Release of `failed`.
        self.pending.load(Ordering::Acquire)
    }

    /// A dial brought nothing for the caller.
    pub(crate) fn failed(&self) {
        // Release: what the dial did before, such as taking its server down, is seen by the caller that finds it over.
        self.pending.fetch_sub(1, Ordering::Release);
        self.line.wake_all();
    }

    /// A dial brought a connection. If the caller has left or there is no token for it, the pool gets it.
    pub(crate) fn offer(&self, ring: &Arc<Ring<C>>, entry: Box<Entry<C>>) {
        let mut entry = Some(entry);
        self.line.serve(|| ring.grant_once(&mut entry));
        if let Some(entry) = entry {
            // First: a connection that does not fit is dropped, and its drop may panic.
            self.failed();
            ring.offer(entry);
        }
    }
}

/// The caller. If it leaves, what its dials brought and bring is the pool's.
struct Reserving<'a, C: Connector> {
    ring: &'a Arc<Ring<C>>,
    reservation: Arc<Reservation<C>>,
    place: Place,
}

impl<C: Connector> Drop for Reserving<'_, C> {
    fn drop(&mut self) {
        if let Some(grant) = self.reservation.line.leave(&mut self.place) {
            self.ring.pass_on(grant);
        }
    }
}

impl<C: Connector> Ring<C> {
    /// [`Pool::acquire_now`](crate::Pool::acquire_now), after it found no connection idle.
    pub(crate) async fn acquire_now(self: &Arc<Self>) -> Result<Box<Entry<C>>, AcquireError<C::Error>> {
        if let Some(ended) = self.ended() {
            return Err(ended);
        }
        if self.line.waiting() > 0 {
            return Err(AcquireError::Unavailable(self.unavailable()));
        }
        let reservation = Arc::new(Reservation { line: Line::new(), pending: AtomicUsize::new(0) });
        let place = reservation.line.join(1).unwrap_or_else(|_| unreachable!("nobody else is in this line"));
        let mut reserving = Reserving { ring: self, reservation, place };
        let mut may_change_runtime = true;
        loop {
            // The first dial, then one more after each failure and after each hedge delay.
            let runtime = self.runtime.number();
            let begun = self
                .server_to_dial(false, reserving.reservation.pending() > 0)
                .is_some_and(|server| self.dial(&server, Reason::Reserved(Arc::clone(&reserving.reservation))));
            let pending = reserving.reservation.pending();
            if pending == 0 {
                // It has failed already: the next server. If the runtime was found gone, the next dial is on the
                // caller's, once: that may have gone, too.
                let has_gone = self.runtime.number() != runtime;
                if (begun && !has_gone) || (has_gone && std::mem::take(&mut may_change_runtime)) {
                    continue;
                }
                return Err(self.ended().unwrap_or_else(|| AcquireError::Unavailable(self.unavailable())));
            }
            let hedge_at = self.clock.now_ns().saturating_add(nanos(self.settings.hedge_delay));
            let granted = poll_fn(|cx| {
                if let Some(grant) = reserving.reservation.line.poll(&mut reserving.place, cx.waker()) {
                    return Poll::Ready(Some(grant));
                }
                if reserving.reservation.pending() < pending { Poll::Ready(None) } else { Poll::Pending }
            });
            if let Some(grant) = self.clock.until_ns(hedge_at, granted).await.flatten() {
                return Ok(grant.entry);
            }
        }
    }
}
