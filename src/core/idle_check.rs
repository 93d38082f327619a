//! The connector's `check` of an idle connection, in a task of its own on the pool's runtime.
//!
//! Meanwhile the connection is out of its queue and keeps its permit. It counts as an attempt that runs, so callers of
//! `acquire_now` wait for it. Like an attempt, it ends with the epoch, after the connect timeout, or when the hook
//! does.

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt_counts::{Counted, Runs};
use crate::core::closing::close;
use crate::core::hook::{HookEnd, run_hook};
use crate::core::look_again::LookAtEnd;
use crate::core::shared::Shared;
use crate::core::{idle_conns, transition};
use crate::error::Failure;
use crate::server::{Connection, Generation, chain};
use crate::sync::Arc;

/// A task that runs. What it holds it releases when dropped, finished or not, in the order of the fields.
struct IdleCheck<C: Connector> {
    /// Closes if the task is dropped, by a panic or by the end of the runtime.
    conn: Option<Box<Connection<C>>>,
    counted: Counted,
    _away: Away<C>,
    end: LookAtEnd<C>,
}

/// A connection that is out of its queue.
struct Away<C: Connector>(Arc<Generation<C>>);

impl<C: Connector> Drop for Away<C> {
    fn drop(&mut self) {
        self.0.server.idle_history().away -= 1;
    }
}

/// Checks a connection that was taken out of its queue.
///
/// No lock may be held: a runtime that was shut down drops the task at once.
pub(crate) fn check<C: Connector>(shared: &Arc<Shared<C>>, conn: Box<Connection<C>>) {
    let generation = Arc::clone(conn.generation());
    generation.server.idle_history().away += 1;
    let (end, away) = (LookAtEnd::of(shared, &generation), Away(generation));
    let counted = shared.attempts.begin(Runs::Other);
    let task = IdleCheck { conn: Some(conn), counted, _away: away, end };
    shared.runtime.spawn(|_| task.run());
}

impl<C: Connector> IdleCheck<C> {
    async fn run(mut self) {
        let LookAtEnd { generation, shared } = &self.end;
        let Some(conn) = &mut self.conn else { return };
        let check = shared.connector.check(&mut conn.conn);
        let end = run_hook(shared, generation, &mut self.counted, check).await;
        self.finish(end);
    }

    fn finish(mut self, end: HookEnd<C::Error>) {
        let LookAtEnd { generation, shared } = &self.end;
        let Some(mut conn) = self.conn.take() else { return };
        match end {
            HookEnd::Passed => {
                conn.info_mut().check_out(shared.clock.time());
                idle_conns::make_idle(conn);
            }
            HookEnd::Failed(error) => {
                let (pool, config) = (&shared.notifier.name, generation.server.config());
                let (server, cause) = (config.name(), chain(&error));
                tracing::debug!(%pool, %server, %cause, "idle connection fails its check");
                let idle_since = conn.info().idle_since();
                transition::close_refused(shared, conn, CloseReason::CheckFailed);
                if let Some(current) = shared.servers.current(generation) {
                    idle_conns::close_idle_since(&current, idle_since, CloseReason::CheckFailed);
                }
            }
            HookEnd::TimedOut => {
                let outage = conn.outage();
                close(conn, CloseReason::CheckFailed);
                let failure = Failure::CheckTimeout { after: shared.settings.connect_timeout };
                transition::reported(shared, generation, outage, failure, None);
            }
            HookEnd::Ended(why) => close(conn, why),
        }
    }
}
