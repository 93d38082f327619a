//! Closes connections: with a goodbye of the connector where the connection works, otherwise by a drop.

use crate::clock::Clock;
use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::look_again::LookAtEnd;
use crate::core::shared::{Shared, pool_of};
use crate::raw::Time;
use crate::server::{ConnRecord, Connection};
use crate::sync::Arc;

/// Closes a connection. No lock may be held: it runs user code.
pub(crate) fn close<C: Connector>(mut conn: Box<Connection<C>>, why: CloseReason) {
    conn.record.set_close_reason(why);
    if !why.is_polite() || conn.server().health.snapshot().is_down() {
        return drop(conn);
    }
    let Connection { conn, record, connector, .. } = *conn;
    let Some(goodbye) = connector.close(conn, why) else { return };
    // Without the pool there is no runtime.
    if let Some(shared) = pool_of(record.server()) {
        say_goodbye(&shared, record, goodbye);
    }
}

/// Runs a goodbye, in which the connection keeps its permit.
fn say_goodbye<C: Connector>(
    shared: &Arc<Shared<C>>,
    mut record: ConnRecord<C>,
    goodbye: impl Future<Output = ()> + Send + 'static,
) {
    // It no longer tells whether the server answers.
    record.count_out();
    record.server().closing.raise();
    let end = LookAtEnd::of(shared, record.generation());
    let task = Goodbye { goodbye, closing: Closing { record }, end };
    let clock = shared.clock.clone();
    let deadline = clock.time().after(shared.settings.goodbye_timeout);
    // A runtime that was shut down drops the task at once, and so does a pool without one.
    shared.runtime.spawn(move |_| task.run(clock, deadline));
}

/// A task that runs. What it holds it releases in the order of the fields, also if it never ran: the connection, which
/// is in the future, then its record with the permit.
struct Goodbye<C: Connector, F> {
    goodbye: F,
    closing: Closing<C>,
    end: LookAtEnd<C>,
}

impl<C: Connector, F: Future<Output = ()>> Goodbye<C, F> {
    async fn run(self, clock: Clock, deadline: Time) {
        // Locals drop in the opposite order.
        let Self { end: _end, closing: _closing, goodbye } = self;
        let _in_time = clock.until(deadline, goodbye).await;
    }
}

/// A connection that says goodbye. Counted for as long as this lives.
struct Closing<C: Connector> {
    record: ConnRecord<C>,
}

impl<C: Connector> Drop for Closing<C> {
    fn drop(&mut self) {
        self.record.server().closing.lower();
    }
}
