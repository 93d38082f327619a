//! A caller that found nothing idle: it joins the wait queue and is served in turn.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::{between, nanos};
use crate::connector::Connector;
use crate::core::acquire::{Acquired, is_reusable};
use crate::core::shared::Shared;
use crate::core::{background, hand_over, report, settle};
use crate::error::AcquireError;
use crate::raw::Ticket;
use crate::server::Connection;
use crate::sync::{Arc, Ordering};

/// Joins the wait queue and waits, at most `timeout`, for any server.
pub(crate) async fn wait<C: Connector>(shared: &Arc<Shared<C>>, timeout: Option<Duration>) -> Acquired<C> {
    join(shared, timeout, true).await
}

/// Joins the wait queue and waits for as long as an attempt runs that may serve it.
pub(crate) async fn wait_for_attempt<C: Connector>(shared: &Arc<Shared<C>>) -> Acquired<C> {
    if report::ended(shared).is_none() && !any_has_token(shared) {
        return Err(AcquireError::Unavailable(report::unavailable(shared)));
    }
    join(shared, None, false).await
}

/// Whether any server has a token, or needs none.
fn any_has_token<C: Connector>(shared: &Shared<C>) -> bool {
    let now_ns = shared.clock.now_ns();
    shared.servers.list().iter().any(|(_, seat)| seat.server().has_token(now_ns))
}

async fn join<C: Connector>(shared: &Arc<Shared<C>>, timeout: Option<Duration>, is_patient: bool) -> Acquired<C> {
    if let Some(ended) = report::ended(shared) {
        return Err(ended);
    }
    let started_ns = shared.clock.now_ns();
    // Counted before it joins: the end of the last attempt sees the waiter, or the waiter sees that none runs.
    let impatient = usize::from(!is_patient);
    shared.impatient.fetch_add(impatient, Ordering::Relaxed);
    let ticket = match shared.queue.join(shared.settings.max_waiters, is_patient) {
        Ok(ticket) => ticket,
        Err(waiters) => {
            shared.impatient.fetch_sub(impatient, Ordering::Relaxed);
            return Err(AcquireError::QueueFull { waiters });
        }
    };
    let mut waiter = Waiter { shared, ticket, is_patient };
    // Behind the fence of `join`: a connection that came between the look and the join is found here.
    settle::settle(shared);
    // While no caller waits, the background task sleeps without regard to tokens.
    shared.notifier.wake_before(settle::next_token(shared, started_ns));
    let deadline_ns = timeout.map_or(u64::MAX, |timeout| started_ns.saturating_add(nanos(timeout)));
    let end = shared.clock.until_ns(deadline_ns, poll_fn(|cx| waiter.poll(cx))).await;
    // Out of the queue first: it does not count among the waiters of its own error.
    drop(waiter);
    match end {
        Some(End::Served(conn)) => Ok(conn),
        Some(End::Ended(error)) => Err(error),
        Some(End::NoAttempt) => Err(AcquireError::Unavailable(report::unavailable(shared))),
        None => {
            let waited = between(started_ns, shared.clock.now_ns());
            Err(AcquireError::Timeout { waited, reason: report::unavailable(shared) })
        }
    }
}

/// How a wait ended.
enum End<C: Connector> {
    Served(Box<Connection<C>>),
    /// The pool is closed, or its last server was removed.
    Ended(AcquireError<C::Error>),
    /// No attempt runs that may serve an impatient waiter.
    NoAttempt,
}

/// A caller in the wait queue. If it leaves, the connection that it was served with is passed on.
struct Waiter<'a, C: Connector> {
    shared: &'a Arc<Shared<C>>,
    ticket: Ticket,
    is_patient: bool,
}

impl<C: Connector> Waiter<'_, C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End<C>> {
        let shared = self.shared;
        if let Some(conn) = self.poll_queue(cx) {
            return Poll::Ready(End::Served(conn));
        }
        // Behind the waker's registration: what ends the wait after this look wakes it.
        if let Some(ended) = report::ended(shared) {
            return Poll::Ready(End::Ended(ended));
        }
        if !self.is_patient && !self.may_be_served() {
            // The last attempt may have served this waiter since the look.
            return Poll::Ready(self.poll_queue(cx).map_or(End::NoAttempt, End::Served));
        }
        if !shared.notifier.signals.is_running() {
            background::ensure(shared);
        }
        Poll::Pending
    }

    /// Takes the connection that this waiter was served with, if it was and the connection is good.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Option<Box<Connection<C>>> {
        let shared = self.shared;
        while let Some(mut grant) = shared.queue.poll(&mut self.ticket, cx.waker()) {
            let now_ns = shared.clock.now_ns();
            // Of a server that was removed or reset meanwhile: it closes, as when it is returned.
            let is_over = grant.conn.generation().epoch.is_over();
            if grant.fresh && !is_over {
                grant.conn.info.check_out(now_ns);
                return Some(grant.conn);
            }
            if !is_over && is_reusable(shared, &mut grant.conn, now_ns) {
                return Some(grant.conn);
            }
            // A dead connection: back to the old place, then look for another. The connection is dropped last: its
            // permit wakes the background task.
            grant.token.undo();
            shared.queue.rejoin(&mut self.ticket);
            drop(grant.conn);
            settle::settle(shared);
        }
        None
    }

    /// Whether an attempt runs, or can start, whose connection may be had without waiting for a token.
    fn may_be_served(&self) -> bool {
        let shared = self.shared;
        if !settle::has_attempt(shared) {
            settle::settle(shared);
        }
        settle::has_attempt(shared) && any_has_token(shared)
    }
}

impl<C: Connector> Drop for Waiter<'_, C> {
    fn drop(&mut self) {
        self.shared.impatient.fetch_sub(usize::from(!self.is_patient), Ordering::Relaxed);
        if let Some(grant) = self.shared.queue.leave(&mut self.ticket) {
            hand_over::pass_on(grant);
        }
    }
}
