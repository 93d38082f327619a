//! A hook that runs on an idle connection, in a task of its own on the pool's runtime: the connector's `check`.
//!
//! Meanwhile the connection is out of its queue and keeps its permit, and callers wait for it as for an attempt that is
//! about to succeed. Like an attempt, it ends with the epoch, after the connect timeout, or when the hook does.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt_counts::{Counted, Purpose};
use crate::core::closing::{close, why_over};
use crate::core::runtime::time_out;
use crate::core::shared::Shared;
use crate::core::{hand_over, sweep, transition};
use crate::error::Failure;
use crate::server::{Connection, Generation, chain};
use crate::sync::Arc;

/// A task that runs. What it holds it releases when dropped, finished or not, in the order of the fields.
struct IdleTask<C: Connector> {
    /// Closes if the task is dropped, by a panic or by the end of the runtime.
    conn: Option<Box<Connection<C>>>,
    _counted: Counted,
    away: Away<C>,
}

/// A connection that is out of its queue.
struct Away<C: Connector> {
    generation: Arc<Generation<C>>,
    shared: Arc<Shared<C>>,
}

impl<C: Connector> Drop for Away<C> {
    fn drop(&mut self) {
        self.generation.server.idle_record().away -= 1;
        self.shared.notifier.wake_if_waiters();
        transition::look_again(&self.shared, &self.generation);
    }
}

/// How the hook ended.
enum Outcome<C: Connector> {
    Passed,
    Failed(C::Error),
    TimedOut,
    /// The server was removed or reset, or the pool closed.
    Ended,
}

/// Checks a connection that was taken out of its queue.
///
/// No lock may be held: a runtime that was shut down drops the task at once.
pub(crate) fn check<C: Connector>(shared: &Arc<Shared<C>>, conn: Box<Connection<C>>) {
    let generation = Arc::clone(conn.generation());
    generation.server.idle_record().away += 1;
    let away = Away { generation, shared: Arc::clone(shared) };
    let Some(_counted) = shared.attempts.begin(Purpose::IdleTask, 0) else { return };
    let task = IdleTask { conn: Some(conn), _counted, away };
    shared.runtime.spawn(|_| task.run());
}

impl<C: Connector> IdleTask<C> {
    async fn run(mut self) {
        let outcome = self.outcome().await;
        self.finish(outcome);
    }

    async fn outcome(&mut self) -> Outcome<C> {
        let Away { generation, shared } = &self.away;
        let Some(conn) = &mut self.conn else { return Outcome::Ended };
        let mut ended = pin!(generation.epoch.over());
        ended.as_mut().enable();
        // After `enable`: a removal from here on is noticed.
        if generation.epoch.is_over() {
            return Outcome::Ended;
        }
        let mut hook = pin!(shared.connector.check(&mut conn.conn));
        let mut timeout = pin!(time_out(&shared.clock, shared.settings.connect_timeout));
        poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Ended);
            }
            // Before the hook, which may use up the task's budget: then no timer is ever due.
            let is_over = timeout.as_mut().poll(cx).is_ready();
            match hook.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result.map_or_else(Outcome::Failed, |()| Outcome::Passed)),
                Poll::Pending if is_over => Poll::Ready(Outcome::TimedOut),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn finish(mut self, outcome: Outcome<C>) {
        let Away { generation, shared } = &self.away;
        let Some(mut conn) = self.conn.take() else { return };
        match outcome {
            Outcome::Passed => {
                conn.info_mut().check_out(shared.clock.time());
                hand_over::keep(conn);
            }
            Outcome::Failed(error) => {
                let (pool, config) = (&shared.notifier.pool, generation.server.config());
                let (server, cause) = (config.name(), chain(&error));
                tracing::debug!(%pool, %server, %cause, "idle connection fails its check");
                let idle_since = conn.info().idle_since();
                close(conn, CloseReason::CheckFailed);
                if let Some(current) = shared.servers.current(generation) {
                    sweep::close_idle_since(&current, idle_since);
                }
            }
            Outcome::TimedOut => {
                let outage = conn.outage;
                close(conn, CloseReason::CheckFailed);
                let failure = Failure::Unanswered { after: shared.settings.connect_timeout };
                transition::reported(shared, generation, outage, failure, None);
            }
            Outcome::Ended => close(conn, why_over(generation)),
        }
    }
}
