//! The sweeps: at intervals the background task looks at the idle connections of each server.
//!
//! # How they do not fight each other
//!
//! Several rules close idle connections, and one opens them. None undoes what another does:
//!
//! | rule | closes or opens | what keeps it from working against the others |
//! |---|---|---|
//! | lifetime | closes at its end | one that is about to end counts no more: it is replaced before, and is no surplus |
//! | minimum (`refill`) | opens while fewer go on living | one that is away for a check counts as idle |
//! | idle timeout | closes what was not used for as long | not below the minimum; a checkout does not ask then |
//! | shrinking | closes what two windows did not need | not below the minimum, nor the last one |
//! | check | closes what fails it | keeps the idle time, so what passes still reaches its idle timeout |
//! | `is_reusable` | closes what is refused | what was opened since is met by the next sweep alone |
//! | outage | closes what it made suspect | `refill` waits until the server is plainly up |
//!
//! Where no permit is free, nothing is replaced early: the connection closes at its end, and `refill` takes its permit.

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::idle_check;
use crate::core::refill::refill;
use crate::core::shared::Shared;
use crate::core::{idle_conns, transition};
use crate::raw::{TICK, Time};
use crate::server::{Connection, Generation};
use crate::servers::ListEntry;
use crate::sync::Arc;

/// The most servers that are looked at in one go, of those with open connections or a minimum of idle ones. The next
/// slice follows a tick later.
const SLICE: usize = 1_024;
/// The most surplus connections of a server that one sweep closes. At the end of their lifetimes it closes as many, or
/// a sixteenth of the idle ones if that is more. The next sweep goes on.
const FEW: usize = 8;

/// What the background task remembers between two sweeps.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    /// When the sweep began, and its last slice.
    began: Time,
    sliced: Time,
    /// The number of the server that comes next; zero between two sweeps.
    next: usize,
}

/// What a sweep found in the idle queues of a server.
#[derive(Debug, Default)]
struct Found {
    idle: usize,
    /// Their lifetime ends before the next sweep, or before a connect that begins then could replace them.
    ending: usize,
    /// Past the idle timeout, but perhaps among the minimum.
    timed_out: usize,
    to_check: usize,
}

impl Sweeps {
    /// Runs the sweep, or its next slice, if it is due.
    pub(crate) fn run<C: Connector>(&mut self, shared: &Arc<Shared<C>>, now: Time) {
        let is_due = match self.next {
            0 => now.since(self.began) >= shared.settings.sweep_distance(),
            _ => now.since(self.sliced) >= TICK,
        };
        if !shared.settings.maintenance || !is_due {
            return;
        }
        if self.next == 0 {
            self.began = now;
        }
        self.sliced = now;
        // Not while the list is held: it runs user code.
        for generation in self.slice(shared) {
            sweep_server(shared, &generation, now);
        }
    }

    /// The servers of the next slice.
    fn slice<C: Connector>(&mut self, shared: &Shared<C>) -> Vec<Arc<Generation<C>>> {
        let list = shared.servers.list();
        let is_kept = shared.settings.min_idle() > 0;
        let capacity = list.up.capacity();
        // The idle connections of a disabled server end as all do. It is not among the open ones.
        let any_disabled = shared.servers.disabled() > 0;
        let rests = |entry: &ListEntry<C>| {
            any_disabled && entry.server().health.snapshot().is_disabled() && !entry.generation.idle.is_empty()
        };
        let mut slice = Vec::new();
        while self.next < capacity && slice.len() < SLICE {
            let number = self.next;
            self.next += 1;
            let serves = list.up.contains(number) || list.standby.contains(number);
            let is_open = list.open.contains(number);
            let is_looked_at = |entry: &&ListEntry<C>| is_open || is_kept && serves || rests(entry);
            let Some(entry) = list.entry(number).filter(is_looked_at) else { continue };
            if is_open && !entry.is_open() {
                shared.servers.refresh(number);
            }
            slice.push(Arc::clone(&entry.generation));
        }
        if self.next >= capacity {
            self.next = 0;
        }
        slice
    }
}

/// Looks at one server. See the module's page.
fn sweep_server<C: Connector>(shared: &Arc<Shared<C>>, generation: &Arc<Generation<C>>, now: Time) {
    let found = if generation.idle.is_empty() { Found::default() } else { find(shared, generation, now) };
    close_unneeded(shared, generation, &found, now);
    check_idle(shared, generation, &found, now);
    refill(shared, generation, now);
}

/// Closes the connections that may not be reused, and counts the others. Asks the connector, too: connections that
/// their server has closed do not stay half open.
fn find<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, now: Time) -> Found {
    let settings = &shared.settings;
    let ends_by = now.after(settings.sweep_distance() + TICK + 2 * generation.server.connect_time());
    let mut found = Found::default();
    let mut may_end = FEW.max(generation.idle.len() / 16);
    let unfit = idle_conns::take_out(generation, |conn| {
        // The totals get what they lack of it.
        conn.record.add_uses_to_totals();
        let why = idle_conns::why_unfit(shared, conn, now);
        if why == Some(CloseReason::MaxLifetime) {
            if may_end > 0 {
                may_end -= 1;
                return why;
            }
            found.idle += 1;
            found.ending += 1;
            return None;
        }
        if why.is_none() {
            found.idle += 1;
            found.ending += usize::from(conn.expires_at <= ends_by);
            let idle = now.since(conn.info().idle_since());
            found.timed_out += usize::from(settings.idle_timeout.is_some_and(|timeout| idle >= timeout));
            found.to_check += usize::from(is_check_due(shared, conn, now));
        }
        why
    });
    unfit.into_iter().for_each(|(conn, _)| transition::close_unusable(shared, conn, now));
    found
}

/// Closes what is past its idle timeout or not needed, down to the minimum.
fn close_unneeded<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, found: &Found, now: Time) {
    let (settings, server) = (&shared.settings, &generation.server);
    let minimum = settings.min_idle() as usize;
    let closes = {
        let mut history = server.idle_history();
        history.ending = found.ending;
        let Some(timeout) = settings.idle_timeout else { return };
        let lasting = history.lasting(found.idle);
        let window = (timeout / 2).max(settings.sweep_distance());
        let surplus = history.surplus(lasting, minimum.max(1), window, now);
        surplus.min(FEW).max(found.timed_out.min(lasting.saturating_sub(minimum)))
    };
    if closes > 0 {
        let closed = idle_conns::close_longest_idle(generation, closes, |conn| {
            let idle = now.since(conn.info().idle_since());
            let is_timed_out = settings.idle_timeout.is_some_and(|timeout| idle >= timeout);
            if is_timed_out { CloseReason::IdleTimeout } else { CloseReason::Surplus }
        });
        server.idle_history().closed(closed);
    }
}

/// Starts the checks that are due: of at most a quarter of the idle connections at once, at least one.
fn check_idle<C: Connector>(shared: &Arc<Shared<C>>, generation: &Arc<Generation<C>>, found: &Found, now: Time) {
    if found.to_check == 0 || !generation.server.health.snapshot().is_plainly_up() {
        return;
    }
    let away = generation.server.idle_history().away;
    let mut left = ((found.idle + away) / 4).max(1).saturating_sub(away);
    if left == 0 {
        return;
    }
    let due = idle_conns::take_out(generation, |conn| {
        let is_taken = left > 0 && is_check_due(shared, conn, now);
        left -= usize::from(is_taken);
        is_taken.then_some(())
    });
    for (conn, ()) in due {
        idle_check::check(shared, conn);
    }
}

fn is_check_due<C: Connector>(shared: &Shared<C>, conn: &Connection<C>, now: Time) -> bool {
    // Of an idle connection the time of its checkout is that of the last check, if one came since.
    let proven_at = conn.info().idle_since().max(conn.info().checked_out_at());
    shared.settings.idle_check_interval.is_some_and(|interval| now.since(proven_at) >= interval)
}
