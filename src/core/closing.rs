//! Closes connections: with a goodbye of the connector where the connection works, otherwise by a drop.

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::shared::{Shared, pool_of};
use crate::server::{Connection, Generation, Permit};
use crate::sync::Arc;

/// Closes a connection. No lock may be held: it runs user code.
pub(crate) fn close<C: Connector>(mut conn: Box<Connection<C>>, why: CloseReason) {
    conn.permit.set_close_reason(why);
    if !why.is_polite() || conn.permit.server().health.snapshot().is_down() {
        return drop(conn);
    }
    let Connection { conn, permit, connector, .. } = *conn;
    let Some(goodbye) = connector.close(conn, why) else { return };
    // Without the pool there is no runtime.
    if let Some(shared) = pool_of(permit.server()) {
        say_goodbye(&shared, permit, goodbye);
    }
}

/// Runs a goodbye, in which the connection keeps its permit.
fn say_goodbye<C: Connector>(
    shared: &Arc<Shared<C>>,
    permit: Permit<C>,
    goodbye: impl Future<Output = ()> + Send + 'static,
) {
    let closing = Closing::begin(permit);
    let clock = shared.clock.clone();
    let deadline = clock.time().after(shared.settings.goodbye_timeout);
    // A runtime that was shut down drops the task at once, and so does a pool without one.
    shared.runtime.spawn(move |_| async move {
        let _closing = closing;
        let _in_time = clock.until(deadline, goodbye).await;
    });
}

/// A connection that says goodbye. Counted for as long as this lives.
struct Closing<C: Connector> {
    permit: Permit<C>,
}

impl<C: Connector> Closing<C> {
    fn begin(mut permit: Permit<C>) -> Self {
        // It no longer tells whether the server answers.
        permit.count_out();
        permit.server().count_closing(true);
        Self { permit }
    }
}

impl<C: Connector> Drop for Closing<C> {
    fn drop(&mut self) {
        self.permit.server().count_closing(false);
    }
}

/// Why a connection closes whose generation took over by none: its epoch is over.
pub(crate) fn why_over<C: Connector>(generation: &Generation<C>) -> CloseReason {
    match generation.was_removed() {
        _ if generation.server.is_pool_closed() => CloseReason::PoolClosed,
        true => CloseReason::Removed,
        false => CloseReason::Reset,
    }
}
