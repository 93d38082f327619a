//! Recycles used connections: a task runs the connector's `recycle`, then gives the connection back.
//!
//! Meanwhile the connection keeps its permit and counts as an attempt that is about to succeed: callers wait for it,
//! and no other attempt starts for them until the hedge delay is over.

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt_counts::{Counted, Purpose};
use crate::core::closing::{close, why_over};
use crate::core::hand_over::give_back;
use crate::core::idle_task::{HookEnd, run_hook};
use crate::core::shared::{Shared, pool_of};
use crate::core::transition;
use crate::core::verdict::{count_success, end_use};
use crate::error::Failure;
use crate::server::{Connection, Total};
use crate::sync::Arc;

/// Recycles a connection whose use ends. Without a runtime it closes.
pub(crate) fn recycle<C: Connector>(mut conn: Box<Connection<C>>) {
    let Some(shared) = pool_of(conn.server()) else { return close(conn, CloseReason::PoolClosed) };
    let has_verdict = end_use(&shared, &mut conn);
    // There is always one: only attempts for waiters are bounded.
    let Some(counted) = shared.attempts.begin(Purpose::Recycle, 0) else { return };
    let task = Recycle { conn, counted, has_verdict, shared: Arc::clone(&shared) };
    // A runtime that was shut down drops the task at once, and so does a pool without one.
    shared.runtime.spawn(|_| run(task));
}

/// A task that runs. Fields drop in this order: one that finds that no attempt runs has been served.
struct Recycle<C: Connector> {
    conn: Box<Connection<C>>,
    counted: Counted,
    has_verdict: bool,
    shared: Arc<Shared<C>>,
}

async fn run<C: Connector>(task: Recycle<C>) {
    // Locals drop in the opposite order.
    let Recycle { shared, has_verdict, mut counted, mut conn } = task;
    let generation = Arc::clone(conn.generation());
    let hook = shared.connector.recycle(&mut conn.conn);
    let failure = match run_hook(&shared, &generation, &mut counted, hook).await {
        HookEnd::Passed => {
            if !has_verdict {
                conn.server().count(Total::Successes, 1);
                count_success(&shared, &mut conn);
            }
            let now = shared.clock.time();
            conn.info_mut().rest_from(now);
            give_back(conn, now);
            None
        }
        HookEnd::Ended => {
            close(conn, why_over(&generation));
            None
        }
        HookEnd::Failed(error) => Some((conn, Failure::Recycle(error))),
        HookEnd::TimedOut => {
            let after = shared.settings.connect_timeout;
            Some((conn, Failure::RecycleTimeout { after }))
        }
    };
    if let Some((conn, failure)) = failure {
        if !has_verdict {
            transition::reported(&shared, &generation, conn.outage(), failure, None);
        }
        close(conn, CloseReason::RecycleFailed);
    }
}
