//! Changes the set of servers and acts on it: events, closed connections, wake-ups.

use crate::connector::Connector;
use crate::core::idle_conns::move_or_close;
use crate::core::look_again::{look_again, look_at};
use crate::core::shared::Shared;
use crate::core::{outage, transition};
use crate::error::ServerError;
use crate::load_balancing::LoadBalancing;
use crate::raw::HealthState;
use crate::server::Server;
use crate::servers::{Change, drop_closed_lists};
use crate::status::StateKind;
use crate::sync::Arc;

/// See [`Pool::register`](crate::Pool::register).
pub(crate) fn register<C: Connector>(shared: &Arc<Shared<C>>, server: &Server) -> Result<(), ServerError> {
    shared.servers.register(server, shared.clock.time()).map(|change| act(shared, change))
}

/// See [`Pool::deregister`](crate::Pool::deregister).
pub(crate) fn deregister<C: Connector>(shared: &Arc<Shared<C>>, name: &str) -> Result<(), ServerError> {
    shared.servers.deregister(name, shared.clock.time()).map(|change| act(shared, change))
}

/// See [`Pool::set_servers`](crate::Pool::set_servers).
pub(crate) fn set_servers<C: Connector>(shared: &Arc<Shared<C>>, servers: &[Server]) -> Result<(), ServerError> {
    shared.servers.set(servers, shared.clock.time()).map(|change| act(shared, change))
}

/// See [`Pool::update`](crate::Pool::update).
pub(crate) fn update<C: Connector>(shared: &Arc<Shared<C>>, server: &Server) -> Result<(), ServerError> {
    shared.servers.update(server, shared.clock.time()).map(|change| act(shared, change))
}

/// See [`Pool::reset`](crate::Pool::reset). A closed pool has nothing to reset.
pub(crate) fn reset<C: Connector>(shared: &Arc<Shared<C>>) {
    if let Ok(change) = shared.servers.reset(shared.clock.time()) {
        act(shared, change);
    }
}

/// See [`Pool::reset_server`](crate::Pool::reset_server).
pub(crate) fn reset_server<C: Connector>(shared: &Arc<Shared<C>>, name: &str) -> Result<(), ServerError> {
    shared.servers.reset_server(name, shared.clock.time()).map(|change| act(shared, change))
}

/// See [`Pool::set_load_balancing`](crate::Pool::set_load_balancing).
pub(crate) fn set_load_balancing<C: Connector>(shared: &Shared<C>, policy: LoadBalancing) {
    shared.servers.set_policy(policy);
}

/// Closes the pool: removes all servers, and waiters get an error. Connections in use close when they are returned.
pub(crate) fn close<C: Connector>(shared: &Arc<Shared<C>>) {
    let Ok(change) = shared.servers.close(shared.clock.time()) else { return };
    act(shared, change);
    // The background task ends.
    shared.notifier.wake();
    drop_closed_lists();
}

/// Acts on a task that was dropped unfinished: its runtime was shut down, so connections opened there are dead and
/// close. The runtime of the next async caller takes over.
pub(crate) fn runtime_lost<C: Connector>(shared: &Arc<Shared<C>>, number: u64) {
    if shared.runtime.lost(number) {
        reset(shared);
    }
}

/// Acts on a change. No lock is held: events, drops and wakers run user code. Drops come last: if one panics, unwinding
/// drops the rest.
fn act<C: Connector>(shared: &Arc<Shared<C>>, change: Change<C>) {
    // First: after a panic no closed queue holds connections.
    let mut idle = Vec::new();
    for generation in change.closed() {
        generation.idle.drain(|conn| idle.push(conn));
    }
    for generation in &change.registered {
        let server = &generation.server;
        server.tell_state(StateKind::Registered, "server is registered");
        // A server that was down or recovered when it was removed still does.
        let is_recovering = server.health.snapshot().state() == HealthState::Recovering;
        if let Some(until) = server.down_until().or_else(|| is_recovering.then(|| server.recovering_until())) {
            look_at(shared, generation, until);
        }
    }
    if !change.registered.is_empty() || shared.servers.list().closed {
        // One that drained it before its removal has nothing to wait for, and no one has when the pool is closed.
        shared.notifier.drain_changed.notify_waiters();
    }
    for generation in change.registered.iter().chain(&change.replaced) {
        look_again(shared, generation);
    }
    for generation in &change.removed {
        generation.server.tell_state(StateKind::Draining, "server is removed");
        generation.server.allow_gone_event();
        if shared.servers.list().closed {
            // The failures hold user values; free them when the pool closes.
            generation.server.set_last_failure(None);
            generation.server.set_connect_error(None);
        }
    }
    transition::stopped_serving(shared, shared.clock.time());
    shared.notifier.server_changed.notify_waiters();
    if shared.servers.list().len == 0 || outage::are_all_disabled(shared) {
        shared.queue.wake_all();
    }
    shared.notifier.wake_if_waiters();
    for conn in idle {
        move_or_close(conn);
    }
}
