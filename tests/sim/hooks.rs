//! The connector's hooks beside `connect`: what happens after a use, recycling, checks, goodbyes.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use connring::{AfterUse, CloseReason, Ended};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::features::Feature;
use crate::health::Evidence;
use crate::net::{SimConn, SimConnector, SimError};
use crate::observer::is_polite;
use crate::plan::Plan;
use crate::weather::Mode;
use crate::world::{Event, MS, State, World};

/// How late a timer may be: tokio's tick in milliseconds.
const TICK: u64 = 2 * MS;

/// A used connection that is made fit for the next caller: from its return on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recycle {
    pub(crate) server: usize,
    pub(crate) began: u64,
    /// The hook runs.
    is_running: bool,
}

impl Recycle {
    pub(crate) fn new(server: usize, began: u64) -> Self {
        Self { server, began, is_running: false }
    }
}

/// What a hook meets.
enum Meets {
    Answer { after_ms: u64 },
    Error { after_ms: u64 },
    Silence,
}

impl SimConnector {
    pub(crate) fn answer_of(&self, conn: &mut SimConn, ended: Ended) -> AfterUse {
        match conn.ending.take() {
            Some((expected, answer)) if expected == ended => answer,
            other => {
                self.world.violated(format!("connection {} is asked about {ended:?}, it is {other:?}", conn.id));
                AfterUse::Close
            }
        }
    }

    /// Makes a connection fit: reads the rest of an answer.
    pub(crate) async fn make_fit(&self, conn: &mut SimConn) -> Result<(), SimError> {
        let mut running = Running::begin(&self.world, conn);
        let yields = self.world.state().network.pick(&[0, 0, 1, 2]);
        for _ in 0..yields {
            yield_now().await;
        }
        let is_fit = match self.meets(conn) {
            Meets::Answer { after_ms } => {
                pause(after_ms).await;
                !conn.is_broken()
            }
            Meets::Error { after_ms } => {
                pause(after_ms).await;
                false
            }
            Meets::Silence => pending().await,
        };
        running.end(is_fit);
        if !is_fit {
            return Err(SimError::Refused);
        }
        conn.unread.clear();
        Ok(())
    }

    fn meets(&self, conn: &SimConn) -> Meets {
        let (is_broken, is_told) = (conn.is_broken(), conn.is_told());
        let mut state = self.world.state();
        let (mode, is_calm) = (state.servers[conn.server].mode, state.is_calm);
        let after_ms = if let Mode::Slow { answer_ms, .. } = mode { answer_ms } else { state.network.pick(&[0, 1, 4]) };
        let luck = state.network.within(0..=99);
        let fails = if let Mode::Fails { percent } = mode { percent } else { 8 };
        match mode {
            _ if is_broken && is_told => Meets::Error { after_ms: 0 },
            _ if is_broken => Meets::Silence,
            Mode::Hangs | Mode::Mute => Meets::Silence,
            _ if is_calm || luck >= fails + 4 => Meets::Answer { after_ms },
            _ if luck >= fails => Meets::Silence,
            _ => Meets::Error { after_ms },
        }
    }

    /// Says goodbye, if the plan says so. Checks that the pool may ask.
    pub(crate) fn say_goodbye(
        &self,
        mut conn: SimConn,
        why: CloseReason,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let (now, status) = (self.world.now(), self.world.pool().map(|pool| pool.status()));
        let mut state = self.world.state();
        let is_down = state.is_surely(conn.server, true, now);
        let is_in_use = state.open.get(&conn.id).is_none_or(|open| open.in_use);
        let is_in_use = is_in_use && !state.recycles.contains_key(&conn.id);
        if is_down || is_in_use || !is_polite(why) {
            let facts = format!("down {is_down}, in use {is_in_use}");
            state.violated(format!("connection {} is asked to say goodbye: {why:?}, {facts}", conn.id));
        }
        let server = &state.servers[conn.server];
        let of_server = status.iter().flat_map(|status| &status.servers).filter(|s| *s.address == *server.address);
        // With the attempts that are scheduled and have not begun.
        let counted: u32 = of_server.map(|s| s.open).sum();
        // What says goodbye already makes room. A caller that comes now is not in the queue yet, and one whose time is
        // over still is.
        let is_needless = match why {
            CloseReason::OverMaximum => !server.held.is_exceeded(counted - server.closing),
            CloseReason::MadeRoom => {
                server.closing as usize > state.wait_queue.choosy() && !state.wait_queue.has_woken()
            }
            _ => false,
        };
        if is_needless {
            let (open, closing, held) = (server.open, server.closing, &server.held);
            let what = format!("connection {} closes for {why:?}, {closing} of {open} are closing; {held:?}", conn.id);
            state.violated(what);
        }
        conn.leaves(&mut state, Some(why), now);
        if !self.world.plan.has(Feature::Goodbyes) {
            return None;
        }
        let server = &mut state.servers[conn.server];
        server.closing += 1;
        let mode = server.mode;
        let luck = state.network.within(0..=99);
        let hangs = mode == Mode::Hangs || !state.is_calm && luck < 15;
        let ms = if hangs { None } else { Some(state.network.pick(&[0, 0, 1, 4])) };
        state.trace.push((now, Event::SaysGoodbye { conn: conn.id, server: conn.server, why }));
        drop(state);
        let mut goodbye = Goodbye { conn, began: now, is_over: false };
        Some(async move {
            match ms {
                Some(ms) => pause(ms).await,
                None => pending().await,
            }
            goodbye.end();
        })
    }
}

impl State {
    /// Whether `acquire_now` gives up although an attempt could run for it, or a connection is recycled.
    pub(crate) fn could_serve_now(&self, plan: &Plan, now: u64) -> bool {
        let has_token = self
            .servers
            .iter()
            .any(|server| server.is_listed && server.disabled.is_none() && server.held.rate().is_none());
        let is_recycled = !self.recycles.is_empty() && has_token && !plan.fail_fast;
        is_recycled || self.could_connect(plan, now)
    }

    /// Whether an attempt at a server that is up is more than the waiters need, where all attempts are for waiters:
    /// recycled connections count as attempts until the hedge delay is over, but not for waiters that accept none.
    pub(crate) fn is_unwanted(&self, plan: &Plan, waiters: usize, now: u64) -> bool {
        let others = [Feature::SeveralServers, Feature::TryAcquire, Feature::MinIdle];
        // In this instant waiters may have left or been served, or connections come back, since it was scheduled.
        let is_settled = self.call_ended != Some(now) && self.tokens_touched < now && !self.wait_queue.has_woken();
        let recycles = || self.recycles.values().map(|recycle| recycle.began);
        let is_settled = is_settled && recycles().all(|began| began < now);
        let is_young = |began: &u64| now < began + plan.hedge_delay * MS;
        let young = self.attempts.values().map(|attempt| attempt.began).filter(is_young).count();
        let recycled = if self.wait_queue.choosy() > 0 { 0 } else { recycles().filter(is_young).count() };
        !others.iter().any(|&other| plan.has(other)) && is_settled && young + recycled >= waiters
    }
}

async fn pause(ms: u64) {
    if ms > 0 {
        sleep(Duration::from_millis(ms)).await;
    }
}

/// A `recycle` that runs. A drop before its end means that it timed out, or that the connection's epoch is over.
struct Running {
    world: Arc<World>,
    conn: u64,
    began: u64,
    is_over: bool,
}

impl Running {
    fn begin(world: &Arc<World>, conn: &SimConn) -> Self {
        let began = world.now();
        let mut state = world.state();
        let recycle = state.recycles.get_mut(&conn.id);
        let is_asked = recycle.is_some_and(|recycle| !std::mem::replace(&mut recycle.is_running, true));
        if !is_asked || conn.holder.is_some() {
            state.violated(format!("connection {} is recycled, held by {:?}", conn.id, conn.holder));
        }
        state.trace.push((began, Event::Recycles { conn: conn.id, server: conn.server }));
        Self { world: Arc::clone(world), conn: conn.id, began, is_over: false }
    }

    /// Called before the pool acts on it.
    fn end(&mut self, is_fit: bool) {
        self.is_over = true;
        self.world.sync();
        let now = self.world.now();
        let mut state = self.world.state();
        state.trace.push((now, Event::Recycled { conn: self.conn, is_fit }));
        if now > self.began + (self.world.plan.connect_timeout + 1) * MS {
            state.violated(format!("a recycle lasted {} ms", (now - self.began) / MS));
        }
        let Some(recycle) = state.recycles.remove(&self.conn) else { return };
        state.servers[recycle.server].touched = now;
        if is_fit {
            return state.came_back(self.conn, now);
        }
        let expected = state.expect(&self.world.plan, self.conn, Evidence::No, None, now);
        state.failed_recycles.insert(self.conn, expected);
        if let Some(open) = state.open.get_mut(&self.conn) {
            open.closes = Some(CloseReason::RecycleFailed);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let now = self.world.now();
        let is_in_time = now < self.began + self.world.plan.connect_timeout * MS;
        let is_ended = {
            let mut state = self.world.state();
            let state = &mut *state;
            let Some(open) = state.open.get_mut(&self.conn) else { return };
            // In the instant in which it began, the server may have left before.
            let has_left = state.servers[open.server].has_left(self.began + u64::from(!is_in_time));
            let is_ended = state.is_closed || has_left;
            if is_ended {
                // The pool closes it, and that says nothing of the server.
                open.in_use = false;
                state.recycles.remove(&self.conn);
            }
            is_ended
        };
        if is_ended {
            return;
        }
        if is_in_time {
            self.world.violated(format!("the recycle of connection {} was dropped before its time", self.conn));
        } else {
            self.end(false);
        }
    }
}

/// A connection that says goodbye. It closes at the end.
struct Goodbye {
    conn: SimConn,
    began: u64,
    is_over: bool,
}

impl Goodbye {
    fn end(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Goodbye {
    fn drop(&mut self) {
        let (world, id, timeout) = (&self.conn.world, self.conn.id, self.conn.world.plan.goodbye_timeout * MS);
        let lasted = world.now() - self.began;
        let is_short = !self.is_over && lasted < timeout && world.pool().is_some();
        if is_short || lasted > timeout + TICK {
            world.violated(format!("the goodbye of connection {id} ended after {} ms", lasted / MS));
        }
        let mut state = world.state();
        state.servers[self.conn.server].closing -= 1;
    }
}

/// A `check` of an idle connection that runs.
pub(crate) struct Checking<'a> {
    world: &'a World,
}

impl<'a> Checking<'a> {
    pub(crate) fn begin(world: &'a World) -> Self {
        world.state().checks += 1;
        Self { world }
    }
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        self.world.state().checks -= 1;
    }
}
