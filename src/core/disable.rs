//! Takes servers out of rotation by order, and back.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::look_again::look_at;
use crate::core::shared::Shared;
use crate::core::{membership, outage, transition};
use crate::error::ServerError;
use crate::raw::Time;
use crate::reports::DrainReport;
use crate::server::Generation;
use crate::status::StateKind;
use crate::sync::Arc;

/// See [`Pool::disable`](crate::Pool::disable).
pub(crate) fn disable<C: Connector>(shared: &Shared<C>, name: &str, time: Option<Duration>) -> Result<(), ServerError> {
    begin_disable(shared, name, time).map(|_| ())
}

fn begin_disable<C: Connector>(
    shared: &Shared<C>,
    name: &str,
    time: Option<Duration>,
) -> Result<Arc<Generation<C>>, ServerError> {
    let now = shared.clock.time();
    let until = time.map_or(Time::NEVER, |time| now.after(time));
    let push_end = |generation: &Generation<C>| {
        if until != Time::NEVER {
            look_at(shared, generation, until);
        }
    };
    // Before the change too: callers that look in between find that it ends.
    shared.servers.named(name).iter().for_each(|generation| push_end(generation));
    let generation = shared.servers.disable(name, until, now)?;
    push_end(&generation);
    transition::stopped_serving(shared, now);
    shared.notifier.server_changed.notify_waiters();
    // If no server serves now, the connections of those that are down are a last resort; without any, waiting is in
    // vain.
    shared.notifier.wake_if_waiters();
    if outage::are_all_disabled(shared) {
        shared.queue.wake_all();
    }
    // Last: it runs user code.
    generation.server.tell_disabled(time);
    Ok(generation)
}

/// See [`Pool::enable`](crate::Pool::enable).
pub(crate) fn enable<C: Connector>(shared: &Shared<C>, name: &str) -> Result<(), ServerError> {
    if let Some(generation) = shared.servers.enable(name, shared.clock.time())? {
        enabled(shared, &generation);
    }
    Ok(())
}

/// Enables a server whose time is over.
pub(crate) fn enable_if_due<C: Connector>(shared: &Shared<C>, number: usize, now: Time) {
    if let Some(generation) = shared.servers.enable_if_due(number, now) {
        enabled(shared, &generation);
    }
}

fn enabled<C: Connector>(shared: &Shared<C>, generation: &Generation<C>) {
    // The background task has not looked at its trial or recovery meanwhile.
    look_at(shared, generation, shared.clock.time());
    shared.notifier.wake_if_waiters();
    // One that drains it has nothing to wait for.
    shared.notifier.drain_changed.notify_waiters();
    generation.server.tell_state(StateKind::Enabled, "server is enabled");
}

/// See [`Pool::drain`](crate::Pool::drain).
pub(crate) async fn drain<C: Connector>(
    shared: &Arc<Shared<C>>,
    name: &str,
    deadline: Duration,
) -> Result<DrainReport, ServerError> {
    let started = shared.clock.time();
    let server = Arc::clone(&begin_disable(shared, name, None)?.server);
    membership::reset_server(shared, name)?;
    let open = || server.permits.counts().open() as usize;
    // Also until another order ends this one. The connections of a removed server close when they come back, too.
    let is_ended = || {
        let health = server.health.snapshot();
        !health.is_disabled() && !health.is_removed()
    };
    let is_over = || open() == 0 || is_ended();
    let all_returned = shared.notifier.wait_until(is_over);
    shared.clock.until(started.after(deadline), all_returned).await;
    Ok(DrainReport { open: open(), waited: shared.clock.time().since(started) })
}
