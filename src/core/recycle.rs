//! Recycles used connections: a task runs the connector's `recycle`, then gives the connection back.
//!
//! Meanwhile the connection keeps its permit and counts as an attempt that is about to succeed: callers wait for it,
//! and no other attempt starts for them until the hedge delay is over.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt_counts::{Counted, Purpose};
use crate::core::closing::{close, why_over};
use crate::core::hand_over::give_back;
use crate::core::shared::{Shared, pool_of};
use crate::core::transition;
use crate::core::verdict::{count_success, end_use};
use crate::error::Failure;
use crate::server::{Connection, Total};
use crate::sync::Arc;

/// How it ended.
enum Outcome<E> {
    Done,
    Failed(Failure<E>),
    /// The server was removed or reset.
    Ended,
}

/// Recycles a connection whose use ends. Without a runtime it closes.
pub(crate) fn recycle<C: Connector>(mut conn: Box<Connection<C>>) {
    let Some(shared) = pool_of::<C>(&conn.generation().pool) else { return close(conn, CloseReason::PoolClosed) };
    let has_verdict = end_use(&shared, &mut conn);
    let counted = shared.attempts.begin(Purpose::Recycle, 0);
    let task = run(Arc::clone(&shared), conn, has_verdict, counted);
    // A runtime that was shut down drops the task at once, and so does a pool without one.
    shared.runtime.spawn(|_| task);
}

async fn run<C: Connector>(
    shared: Arc<Shared<C>>,
    mut conn: Box<Connection<C>>,
    has_verdict: bool,
    counted: Option<Counted>,
) {
    let outcome = work(&shared, &mut conn).await;
    // Before the connection serves a waiter, who may ask whether an attempt runs.
    drop(counted);
    match outcome {
        Outcome::Done => {
            if !has_verdict {
                conn.permit.server().count(Total::Successes, 1);
                count_success(&shared, &mut conn);
            }
            let now = shared.clock.time();
            conn.info_mut().rest_from(now);
            give_back(conn, now);
        }
        Outcome::Failed(failure) => {
            if !has_verdict {
                transition::reported(&shared, conn.generation(), conn.outage, failure, None);
            }
            close(conn, CloseReason::RecycleFailed);
        }
        Outcome::Ended => {
            let why = why_over(conn.generation());
            close(conn, why);
        }
    }
    shared.notifier.wake_if_waiters();
}

async fn work<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>) -> Outcome<C::Error> {
    let generation = Arc::clone(conn.generation());
    let mut ended = pin!(generation.epoch.over());
    ended.as_mut().enable();
    // After `enable`: a removal from here on is noticed.
    if generation.epoch.is_over() {
        return Outcome::Ended;
    }
    let after = shared.settings.connect_timeout;
    let deadline = shared.clock.time().after(after);
    let mut recycled = pin!(shared.clock.until(deadline, shared.connector.recycle(&mut conn.conn)));
    poll_fn(|cx| {
        if ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Outcome::Ended);
        }
        recycled.as_mut().poll(cx).map(|recycled| match recycled {
            Some(Ok(())) => Outcome::Done,
            Some(Err(error)) => Outcome::Failed(Failure::Recycle(error)),
            None => Outcome::Failed(Failure::RecycleTimeout { after }),
        })
    })
    .await
}
