//! Orders that take servers out of rotation and back, `disable`, `enable` and `drain`: the model, and the operator.

use std::sync::Arc;
use std::time::Duration;

use connring::{DrainReport, Pool, ServerError};
use tokio::time::timeout;

use crate::net::SimConnector;
use crate::weather::{Operator, end_attempts};
use crate::world::{Event, MS, Server, State, World};

/// The end of an order that only another one ends.
pub(crate) const NO_END: u64 = u64::MAX;
/// How late a timer may be: tokio's tick in milliseconds.
const TICK: u64 = 2 * MS;
/// How late what follows an order may be.
const LATE: u64 = 6 * MS;
/// After the trouble, a server is left disabled whose time is over by then.
const SOON: u64 = 100 * MS;

/// An order by which a server is out of rotation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disabled {
    /// When the first of the orders came that kept it out of rotation since.
    pub(crate) since: u64,
    pub(crate) until: u64,
    /// One of them was a drain: no caller may have a connection from before.
    pub(crate) is_drained: bool,
}

/// A call of `drain` that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    server: usize,
    began: u64,
    deadline: u64,
}

impl Server {
    /// Its connections close by order.
    pub(crate) fn reset(&mut self, now: u64) {
        (self.reset_at, self.emptied_at) = (now, Some(now));
        self.health.begins_anew();
    }

    /// When it may be connected to again, if that is known: its time is over, or its trial is due.
    pub(crate) fn due(&self) -> Option<u64> {
        match self.disabled {
            Some(disabled) => Some(disabled.until).filter(|&until| until != NO_END),
            None => self.health.due(),
        }
    }

    /// Whether it was removed, reset or drained since a connection was opened.
    pub(crate) fn has_left(&self, opened: u64) -> bool {
        self.removed_at.max(self.emptied_at) >= Some(opened)
    }

    /// Whether a caller must not have one of its connections. `may_be_older`: the caller may have been served before
    /// the order, in this instant or earlier.
    pub(crate) fn is_out(&self, may_be_older: impl Fn(u64) -> bool) -> bool {
        self.disabled.is_some_and(|disabled| disabled.is_drained || !may_be_older(disabled.since))
    }
}

impl State {
    /// Called before the pool acts on the order.
    fn disables(&mut self, index: usize, until: u64, is_drained: bool, now: u64) {
        let server = &mut self.servers[index];
        let before = server.disabled;
        let since = before.map_or(now, |before| before.since);
        let is_drained = is_drained || before.is_some_and(|before| before.is_drained);
        server.disabled = Some(Disabled { since, until, is_drained });
        (server.touched, server.listing_changed) = (now, now);
        self.health_changed(now);
    }

    fn enables(&mut self, index: usize, now: u64) {
        let server = &mut self.servers[index];
        server.disabled = None;
        (server.touched, server.listing_changed, server.enabled_at) = (now, now, now);
        self.health_changed(now);
    }

    /// The pool says that a server is no longer disabled: by order, which the model knows, or by time.
    pub(crate) fn was_enabled(&mut self, index: usize, now: u64) {
        let Some(disabled) = self.servers[index].disabled else { return };
        if disabled.until > now {
            let what = format!("{} was enabled before its time: {disabled:?}", self.servers[index].address);
            self.violated(what);
        }
        self.trace.push((now, Event::Enables { server: index, by_time: true }));
        self.enables(index, now);
    }

    /// Since when all servers are disabled without end, if they are.
    pub(crate) fn note_all_disabled(&mut self, now: u64) {
        let is_out = |server: &Server| !server.is_listed || server.disabled.is_some_and(|by| by.until == NO_END);
        let all = self.listed() > 0 && self.servers.iter().all(is_out);
        self.all_disabled_since = all.then(|| self.all_disabled_since.unwrap_or(now));
    }

    /// Whether a caller that comes now and waits for a bounded time must be told at once that waiting is pointless: all
    /// servers are disabled without end, and nothing is under way that may serve it.
    pub(crate) fn must_refuse(&self, now: u64) -> bool {
        self.all_disabled_since.is_some_and(|since| since < now)
            && self.attempts.is_empty()
            && self.recycles.is_empty()
            && self.checks == 0
    }

    /// An order whose end is overdue.
    pub(crate) fn overdue_order(&self, now: u64) -> Option<String> {
        let disabled = self.servers.iter().find(|server| {
            server.disabled.is_some_and(|disabled| disabled.until != NO_END && now > disabled.until + TICK)
        });
        if let Some(server) = disabled {
            return Some(format!("{} was not enabled in time: {:?}", server.address, server.disabled));
        }
        self.drains.values().find_map(|drain| {
            let server = &self.servers[drain.server];
            let is_empty = server.open == 0 && server.touched + LATE < now;
            let is_ended = server.enabled_at >= drain.began && server.enabled_at + LATE < now;
            let is_late = drain.deadline + LATE < now;
            (is_empty || is_ended || is_late)
                .then(|| format!("{drain:?} has not ended, with {} open; {:?}", server.open, server.disabled))
        })
    }
}

impl Operator {
    /// Disables servers, or enables those that are disabled.
    pub(crate) fn disable_some(&mut self, listed: &[bool]) {
        let (all, first) = (self.rng.chance(20), self.rng.within(0..=listed.len() as u64 - 1) as usize);
        let ms = if self.rng.chance(60) { Some(self.rng.pick(&[0, 5, 30, 120])) } else { None };
        for server in (0..listed.len()).filter(|&server| listed[server] && (all || server == first)) {
            let is_disabled = self.world.state().servers[server].disabled.is_some();
            if is_disabled && !all && self.rng.chance(60) {
                enable(&self.world, &self.pool, server);
            } else {
                self.disable(server, ms);
            }
            self.check_listed(server);
        }
    }

    fn disable(&self, server: usize, ms: Option<u64>) {
        let now = self.world.now();
        let address = {
            let mut state = self.world.state();
            state.trace.push((now, Event::Disables { server, ms }));
            state.disables(server, ms.map_or(NO_END, |ms| now + ms * MS), false, now);
            state.servers[server].address.clone()
        };
        if let Err(error) = self.pool.disable(&address, ms.map(Duration::from_millis)) {
            self.world.violated(format!("{address} cannot be disabled: {error}"));
        }
    }

    /// Drains a server in a task of its own, or enables it if it is disabled.
    pub(crate) fn drain_or_enable(&mut self, server: usize) {
        if self.world.state().servers[server].disabled.is_some() && self.rng.chance(80) {
            enable(&self.world, &self.pool, server);
            return self.check_listed(server);
        }
        let ms = self.rng.pick(&[0, 10, 60, 150]);
        let gives_up = self.rng.chance(20).then(|| self.rng.within(0..=20));
        let (world, pool) = (Arc::clone(&self.world), self.pool.clone());
        self.drains.push(tokio::spawn(drain(world, pool, server, ms, gives_up)));
    }
}

/// A call of `drain`. Checks its report.
async fn drain(world: Arc<World>, pool: Pool<SimConnector>, server: usize, ms: u64, gives_up: Option<u64>) {
    world.sync();
    let began = world.now();
    let drain = Drain { server, began, deadline: began + ms * MS };
    let (id, address) = {
        let mut state = world.state();
        if state.is_calm || state.is_closed || !state.servers[server].is_listed {
            return;
        }
        state.trace.push((began, Event::Drains { server, ms }));
        end_attempts(&mut state, server);
        state.servers[server].reset(began);
        state.disables(server, NO_END, true, began);
        let id = state.id();
        state.drains.insert(id, drain);
        (id, state.servers[server].address.clone())
    };
    // Its first poll is in this instant, and the order comes with it.
    let draining = pool.drain(&address, Duration::from_millis(ms));
    let ended = match gives_up {
        Some(ms) => timeout(Duration::from_millis(ms), draining).await.ok(),
        None => Some(draining.await),
    };
    let now = world.now();
    world.state().drains.remove(&id);
    if let Some(ended) = ended {
        check_drain(&world, &pool, drain, ended, now);
    }
}

fn check_drain(
    world: &World,
    pool: &Pool<SimConnector>,
    drain: Drain,
    ended: Result<DrainReport, ServerError>,
    now: u64,
) {
    let status = pool.status();
    let mut state = world.state();
    let server = &state.servers[drain.server];
    let (seen, is_ended) = (server.open, server.enabled_at >= drain.began);
    let counted: u32 = status.servers.iter().filter(|s| *s.address == *server.address).map(|s| s.open).sum();
    let is_right = ended.as_ref().is_ok_and(|report| {
        let is_counted = match is_ended || !server.is_listed {
            // There may be new ones.
            true => report.open <= counted as usize,
            false => report.open == counted as usize && report.open >= seen as usize,
        };
        let is_due = report.is_drained() || is_ended || now >= drain.deadline;
        let is_timely = report.waited.as_nanos() as u64 == now - drain.began && now <= drain.deadline + TICK;
        is_counted && is_due && is_timely
    });
    if let Ok(report) = &ended {
        state.trace.push((now, Event::Drained { server: drain.server, open: report.open }));
    }
    if !is_right {
        state.violated(format!("{drain:?} ended with {ended:?}, {seen} are open, {counted} counted"));
    }
}

fn enable(world: &World, pool: &Pool<SimConnector>, server: usize) {
    let now = world.now();
    let address = {
        let mut state = world.state();
        state.trace.push((now, Event::Enables { server, by_time: false }));
        state.enables(server, now);
        state.servers[server].address.clone()
    };
    if let Err(error) = pool.enable(&address) {
        world.violated(format!("{address} cannot be enabled: {error}"));
    }
}

/// After the trouble: enables all servers but those whose time is over soon.
pub(crate) fn enable_all(world: &World, pool: &Pool<SimConnector>) {
    world.sync();
    let now = world.now();
    let is_out = |server: &Server| server.disabled.is_some_and(|disabled| disabled.until.saturating_sub(now) > SOON);
    let disabled: Vec<_> = world.state().servers.iter().map(is_out).collect();
    (0..disabled.len()).filter(|&server| disabled[server]).for_each(|server| enable(world, pool, server));
}
