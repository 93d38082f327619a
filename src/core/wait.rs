//! The wait of a caller that found no idle connection: it joins the wait queue and is served in turn.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::coop::consume_budget;

use crate::acquire_options::AcquireOptions;
use crate::connector::Connector;
use crate::core::acquire::{Acquired, count_in_load, take_wished};
use crate::core::closing::close;
use crate::core::idle_conns::{make_idle, why_outdated};
use crate::core::shared::Shared;
use crate::core::transition::close_unusable;
use crate::core::wish::WaiterWish;
use crate::core::{background, outage, report, settle};
use crate::error::{AcquireError, Unavailable};
use crate::observer::WaitOutcome;
use crate::raw::{TICK, Ticket, Time};
use crate::server::Connection;
use crate::sync::Arc;

/// Joins the wait queue and waits for any server, at most `timeout`. One that is not patient waits only while an
/// attempt runs that may serve it.
pub(crate) fn wait<C: Connector>(
    shared: &Arc<Shared<C>>,
    timeout: Option<Duration>,
    is_patient: bool,
) -> impl Future<Output = Acquired<C>> {
    join_and_wait(move |waker| join(shared, waker, timeout, is_patient, None))
}

/// See [`Pool::acquire_with`](crate::Pool::acquire_with).
pub(crate) async fn acquire_with<C: Connector>(shared: &Arc<Shared<C>>, options: AcquireOptions) -> Acquired<C> {
    // As in `Acquire::poll`.
    consume_budget().await;
    if let Some(conn) = take_wished(shared, &options) {
        return Ok(conn);
    }
    let AcquireOptions { timeout, wish, .. } = options;
    let timeout = timeout.unwrap_or(shared.settings.wait_timeout);
    let wish = wish.is_choosy().then(|| Arc::new(WaiterWish::new(wish)));
    join_and_wait(|waker| join(shared, waker, timeout, true, wish)).await
}

/// The wait that begins, or why the caller need not wait.
type Joined<'a, C> = Result<Wait<'a, C>, AcquireError<<C as Connector>::Error>>;

/// Joins the wait queue.
fn join<C: Connector>(
    shared: &Arc<Shared<C>>,
    waker: Waker,
    timeout: Option<Duration>,
    is_patient: bool,
    wish: Option<Arc<WaiterWish>>,
) -> Joined<'_, C> {
    if let Some(ended) = outage::ended(shared, is_patient) {
        return Err(ended);
    }
    if !is_patient && !settle::any_has_token(shared) {
        return Err(AcquireError::Unavailable(report::unavailable(shared, None)));
    }
    let (started, is_choosy) = (shared.clock.time(), wish.is_some());
    let joined = shared.queue.join(shared.settings.max_waiters, is_patient, wish, Some(waker));
    let ticket = joined.map_err(|waiters| {
        shared.notifier.waits.queue_full.add(1);
        shared.notifier.tell(|observer| observer.queue_full());
        AcquireError::QueueFull { waiters }
    })?;
    shared.notifier.waits.all.add(1);
    let deadline = timeout.map_or(Time::NEVER, |timeout| started.after(timeout));
    let outcome = WaitOutcome::Cancelled;
    let mut wait = Wait { shared, ticket, must_look: false, started, deadline, outcome };
    // A caller of `acquire_now` gets what is due now, and does not wait for what will be.
    if !is_patient && shared.due_times.has_due(started) {
        shared.due_times.note_caller();
    }
    // After the fence of `join`: a connection that came between the look and the join is found here.
    // If that served any waiter, or the wait is nearly over, the first poll must look whether this one was served.
    wait.must_look = settle::settle(shared) || deadline <= started.after(TICK);
    if is_patient && outage::is_pointless(shared, deadline) {
        return Err(AcquireError::Unavailable(wait.unavailable(WaitOutcome::Ended)));
    }
    // While there are no waiters, the background task sleeps without regard to tokens and to probes that are ready.
    if shared.due_times.has_due(started) || outage::is_total_outage(shared) {
        shared.notifier.wake_before(started);
    } else if wait.ticket.is_first() || wait.must_look || is_choosy {
        // Behind other waiters the task waits for the next token already. To find it takes a look at each server.
        shared.notifier.wake_before(settle::next_token(shared, started));
    }
    Ok(wait)
}

/// Joins by `join` and waits. Few values live across the wait, since there may be many waiters.
async fn join_and_wait<'a, C: Connector>(join: impl FnOnce(Waker) -> Joined<'a, C>) -> Acquired<C> {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let mut wait = join(waker)?;
    let clock = &wait.shared.clock;
    let end = clock.until(wait.deadline, poll_fn(|cx| wait.poll(cx))).await;
    match end {
        Some(End::Served(conn)) => {
            wait.outcome = WaitOutcome::Served;
            Ok(conn)
        }
        Some(End::Ended(error)) => {
            wait.outcome = WaitOutcome::Ended;
            Err(error)
        }
        Some(End::InVain) => Err(AcquireError::Unavailable(wait.unavailable(WaitOutcome::Ended))),
        None => {
            wait.shared.notifier.waits.timeouts.add(1);
            let waited = clock.time().since(wait.started);
            Err(AcquireError::Timeout { waited, reason: wait.unavailable(WaitOutcome::TimedOut) })
        }
    }
}

/// How a wait ended.
enum End<C: Connector> {
    Served(Box<Connection<C>>),
    /// The pool is closed, or its last server was removed.
    Ended(AcquireError<C::Error>),
    /// No attempt runs that may serve an impatient waiter, or waiting is pointless.
    InVain,
}

/// The wait of a caller in the queue. Its drop leaves the queue and passes on the connection that it was served with.
struct Wait<'a, C: Connector> {
    shared: &'a Arc<Shared<C>>,
    ticket: Ticket<WaiterWish>,
    /// A poll must look whether it was served. Not the first one, as a rule: it was not, and will be woken.
    must_look: bool,
    started: Time,
    deadline: Time,
    outcome: WaitOutcome,
}

impl<C: Connector> Wait<'_, C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End<C>> {
        let shared = self.shared;
        if std::mem::replace(&mut self.must_look, true)
            && let Some(conn) = self.poll_queue(cx)
        {
            return Poll::Ready(End::Served(conn));
        }
        // After the waker's registration: an end of the wait after this look wakes the caller.
        if let Some(ended) = outage::ended(shared, self.ticket.is_patient()) {
            return Poll::Ready(End::Ended(ended));
        }
        let is_in_vain = match self.ticket.is_patient() {
            // Servers that fail are tried again, perhaps sooner than it seems now; those that are disabled are not.
            true => outage::are_all_disabled(shared) && outage::is_pointless(shared, self.deadline),
            false => !self.may_be_served(),
        };
        if outage::fails_fast(shared) || is_in_vain {
            // The last attempt may have served this waiter since the look.
            return Poll::Ready(self.poll_queue(cx).map_or(End::InVain, End::Served));
        }
        if !shared.signals.is_running() {
            background::ensure(shared);
        }
        Poll::Pending
    }

    /// Why it was not served. It leaves the queue first, so as not to count among the waiters of its own error.
    fn unavailable(mut self, outcome: WaitOutcome) -> Unavailable<C::Error> {
        self.outcome = outcome;
        let (shared, wish) = (self.shared, self.ticket.wish().cloned());
        drop(self);
        report::unavailable(shared, wish.as_ref().map(|waiter| &waiter.wish))
    }

    /// Takes the connection that this waiter was served with, if it is good.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Option<Box<Connection<C>>> {
        let shared = self.shared;
        while let Some(mut grant) = shared.queue.poll(&mut self.ticket, cx.waker()) {
            let now = shared.clock.time();
            // A connection of a server that was removed, reset or down meanwhile closes, as when it is returned.
            let outdated = why_outdated(&grant.conn);
            // A new one is good, unless this caller comes late for it.
            let is_new = grant.is_from_attempt && now.since(grant.conn.info().opened_at()) < TICK;
            if outdated.is_none() && is_new {
                grant.conn.info_mut().check_out(now);
            }
            if outdated.is_none() && (is_new || grant.conn.try_check_out(now, shared.idle_limit)) {
                count_in_load(shared, &mut grant.conn);
                return Some(grant.conn);
            }
            // A dead connection: rejoins at the old place and looks for another. Then wakes the background task: it may
            // sleep without regard to tokens, and the permit of a connection that says goodbye is not free yet.
            grant.token.undo();
            shared.queue.rejoin(&mut self.ticket);
            match outdated {
                Some(why) => close(grant.conn, why),
                None => close_unusable(shared, grant.conn, now),
            }
            settle::settle(shared);
            shared.notifier.wake_if_waiters();
        }
        None
    }

    /// Whether an attempt runs that may serve it, or can start.
    fn may_be_served(&self) -> bool {
        let shared = self.shared;
        if !settle::attempt_may_serve(shared) {
            settle::settle(shared);
        }
        // Whether the background task has yet to start the probes that were due when this caller came. Before the look
        // at the attempts: once they run, this caller is no longer unheard.
        let can_start = shared.due_times.unheard_callers().is_some() && settle::any_has_token(shared);
        can_start || settle::attempt_may_serve(shared)
    }
}

impl<C: Connector> Drop for Wait<'_, C> {
    fn drop(&mut self) {
        if let Some(grant) = self.shared.queue.leave(&mut self.ticket) {
            // To the next one.
            grant.token.undo();
            make_idle(grant.conn);
        }
        if !self.ticket.is_patient() || self.ticket.wish().is_some() {
            // Others may wait for a token that was reserved for this one, or for an attempt that can start now.
            self.shared.notifier.wake_if_waiters();
        }
        let Self { shared, started, outcome, .. } = *self;
        shared.notifier.tell(|observer| observer.waited(shared.clock.time().since(started), outcome));
    }
}
