//! A caller's use of a connection: its requests, what it says of the server, and how the use ends.

use std::sync::Arc;
use std::time::Duration;

use connring::{AfterUse, CloseReason, Ended};

use crate::caller::{Caller, Conn, pause};
use crate::features::Feature;
use crate::hooks::Recycle;
use crate::reports::Open;
use crate::weather::Mode;
use crate::world::{Event, MS};

/// How long a caller waits for an answer.
const ANSWER_TIMEOUT: u64 = 40;

/// How a request ended.
pub(crate) enum Answer {
    Whole,
    /// The whole answer is an error.
    Error,
    Half,
    /// The connection is broken, or no answer came in time.
    None,
}

impl Caller {
    /// Sends some requests, and ends the connection in some way.
    pub(crate) async fn use_it(&mut self, mut conn: Conn) {
        for _ in 0..self.rng.pick(&[0, 1, 1, 1, 2]) {
            // A caller may leave in the middle of an answer: by a timeout, an error or a dropped future.
            let leaves = self.has(Feature::HalfAnswers) && self.rng.chance(10);
            match self.ask(&mut conn, leaves).await {
                Answer::Whole if self.has(Feature::ReportsSuccess) && self.rng.chance(15) => {
                    self.report_success(&mut conn);
                }
                Answer::Whole => {}
                Answer::Half => return self.abandon(conn, "dropped with half an answer"),
                Answer::None => return self.unanswered(conn).await,
                Answer::Error => return self.failed(conn),
            }
        }
        self.yields().await;
        match self.rng.within(0..=99) {
            0..=7 if self.has(Feature::Discards) => self.discard(conn, "discarded"),
            8..=13 if self.has(Feature::Fails) => self.fail(conn),
            14..=17 if self.has(Feature::Detaches) => {
                self.closes(&conn, CloseReason::Detached);
                conn.leave_pool();
                self.ends(conn, "detached", |conn| drop(Conn::detach(conn)));
            }
            18..=27 if self.has(Feature::KeepsDropped) => {
                let answer = self.rng.pick(&[AfterUse::Reuse, AfterUse::Reuse, AfterUse::Recycle, AfterUse::Close]);
                self.drops(conn, answer, "dropped");
            }
            _ => self.release(conn),
        }
    }

    fn has(&self, feature: Feature) -> bool {
        self.world.plan.has(feature)
    }

    /// Ends a connection whose last answer did not come.
    async fn unanswered(&mut self, conn: Conn) {
        let is_told = conn.is_told();
        if self.has(Feature::OutsideTimeouts) && self.rng.chance(60) {
            pause(self.rng.pick(&[1, 20, 100, 260])).await;
            return self.abandon(conn, "dropped by a timeout outside");
        }
        if self.has(Feature::Broken) && is_told && self.rng.chance(70) {
            return self.broken(conn);
        }
        if self.has(Feature::Fails) && self.rng.chance(60) {
            return self.fail(conn);
        }
        self.discard(conn, "discarded broken");
    }

    /// Ends a connection on which the server said that it failed.
    fn failed(&mut self, mut conn: Conn) {
        if self.has(Feature::FailsFor) && self.rng.chance(30) {
            let time = Duration::from_millis(self.rng.pick(&[10, 50, 150]));
            let (world, id) = (Arc::clone(&self.world), conn.id);
            self.closes(&conn, CloseReason::Failed);
            return world.report(id, false, Some(time), || {
                self.ends(conn, "failed for a time", |conn| conn.fail_for("the simulation says so", time));
            });
        }
        if self.has(Feature::ReportsFailure) && self.rng.chance(60) {
            self.world.record(Event::Reports { caller: self.number, conn: conn.id, is_success: false });
            self.world.report(conn.id, false, None, || conn.report_failure("the simulation says so"));
            self.world.note(conn.id, |open| {
                open.verdict = open.verdict.or(Some(false));
                open.answered = open.answered.filter(|_| open.verdict == Some(true));
            });
            return self.release(conn);
        }
        if self.has(Feature::Fails) && self.rng.chance(60) {
            return self.fail(conn);
        }
        // This caller does not tell.
        self.release(conn);
    }

    /// A request and its answer.
    pub(crate) async fn ask(&mut self, conn: &mut Conn, leaves: bool) -> Answer {
        let (request, latency, fails) = {
            let mut state = self.world.state();
            let latency = match state.servers[conn.server].mode {
                Mode::Slow { answer_ms, .. } => answer_ms,
                Mode::Hangs | Mode::Mute => ANSWER_TIMEOUT + 1,
                _ => self.rng.pick(&[0, 1, 1, 4]),
            };
            let percent = if let Mode::Fails { percent } = state.servers[conn.server].mode { percent } else { 0 };
            (state.id(), latency, percent)
        };
        self.world.record(Event::Asks { caller: self.number, conn: conn.id, request });
        conn.unread.push_back(request);
        if leaves {
            pause(latency / 2).await;
            return Answer::Half;
        }
        if latency > 0 {
            pause(latency.min(ANSWER_TIMEOUT)).await;
        }
        if latency > ANSWER_TIMEOUT {
            return Answer::None;
        }
        if conn.is_broken() {
            // The connection is reset if the client sees the death. Otherwise no answer comes.
            if !conn.is_told() {
                pause(ANSWER_TIMEOUT).await;
            }
            return Answer::None;
        }
        match conn.unread.pop_front() {
            Some(answer) if answer == request => {
                self.world.record(Event::Answered { caller: self.number, conn: conn.id });
                if self.rng.chance(fails) { Answer::Error } else { Answer::Whole }
            }
            answer => {
                let what = format!("caller {} asked {request} and got the answer to {answer:?}", self.number);
                self.world.violated(what);
                Answer::None
            }
        }
    }

    /// Releases a connection. The connector decides what follows.
    pub(crate) fn release(&mut self, conn: Conn) {
        let answer = match self.rng.within(0..=99) {
            0..=34 if self.has(Feature::Recycles) => AfterUse::Recycle,
            35..=44 if self.has(Feature::Unfit) => AfterUse::Close,
            _ => AfterUse::Reuse,
        };
        match answer {
            AfterUse::Close => {
                self.closes(&conn, CloseReason::Unfit);
                self.comes_back(conn, (Ended::Released, answer), "released unfit", Conn::release);
            }
            _ => self.comes_back(conn, (Ended::Released, answer), "released", Conn::release),
        }
    }

    /// Drops a connection, and says nothing. The connector may keep one without an answer left in it.
    fn drops(&mut self, mut conn: Conn, answer: AfterUse, how: &'static str) {
        let keeps = match answer {
            AfterUse::Recycle => self.has(Feature::KeepsDropped) && self.has(Feature::Recycles),
            AfterUse::Reuse => conn.unread.is_empty(),
            _ => false,
        };
        if keeps {
            return self.comes_back(conn, (Ended::Dropped, answer), "dropped and kept", drop);
        }
        self.closes(&conn, CloseReason::Dropped);
        conn.ending = Some((Ended::Dropped, AfterUse::Close));
        self.world.report(conn.id, true, None, || self.ends(conn, how, drop));
    }

    /// Ends a use in which the connection comes back, as far as the caller knows.
    fn comes_back(&self, mut conn: Conn, ending: (Ended, AfterUse), how: &'static str, end: impl FnOnce(Conn)) {
        self.world.sync();
        let (index, now) = (conn.server, self.world.now());
        let is_over = {
            let mut state = self.world.state();
            match ending.1 {
                AfterUse::Recycle => {
                    state.recycles.insert(conn.id, Recycle::new(index, now));
                }
                _ => state.came_back(conn.id, now),
            }
            let server = &mut state.servers[index];
            server.touched = now;
            // Those that say goodbye are about to close.
            let open = server.open - server.closing;
            (ending.1 == AfterUse::Reuse && open > server.held.max_conns(now)).then_some(open)
        };
        conn.is_released = true;
        conn.ending = Some(ending);
        self.ends(conn, how, end);
        let server = &self.world.state().servers[index];
        let open = server.open - server.closing;
        if is_over.is_some_and(|before| open >= before) {
            self.world.violated(format!("{open} connections, and one was kept above a lowered maximum"));
        }
    }

    pub(crate) fn discard(&self, conn: Conn, how: &'static str) {
        self.closes(&conn, CloseReason::Discarded);
        self.ends(conn, how, Conn::discard);
    }

    /// The pool must close the connection for that reason.
    fn closes(&self, conn: &Conn, why: CloseReason) {
        self.world.note(conn.id, |open| open.closes = Some(why));
    }

    fn report_success(&self, conn: &mut Conn) {
        self.world.sync();
        self.world.record(Event::Reports { caller: self.number, conn: conn.id, is_success: true });
        let now = self.world.now();
        self.world.state().said_well(conn.id, now);
        conn.report_success();
    }

    fn fail(&self, conn: Conn) {
        self.closes(&conn, CloseReason::Failed);
        self.world.report(conn.id, false, None, || {
            self.ends(conn, "failed", |conn| conn.fail("the simulation says so"));
        });
    }

    /// Drops a connection whose answer is not read to its end.
    fn abandon(&mut self, conn: Conn, how: &'static str) {
        let answer =
            if self.has(Feature::KeepsDropped) && self.rng.chance(50) { AfterUse::Recycle } else { AfterUse::Close };
        self.drops(conn, answer, how);
    }

    /// The connections that have been idle as long close, too.
    fn broken(&self, conn: Conn) {
        let (server, idle_since) = (conn.server, self.world.state().open[&conn.id].idle_since);
        let info = Conn::info(&conn);
        // A new one tells nothing about the others.
        let has_rested = info.uses() > 0 || info.idle() >= Duration::from_millis(100);
        self.closes(&conn, CloseReason::Broken);
        self.world.state().servers[server].broken_at = Some(self.world.now());
        self.ends(conn, "broken", |conn| conn.broken("the simulation says so"));
        let state = self.world.state();
        let coarse = if self.world.plan.maintenance { 104 * MS } else { 0 };
        let is_older = |open: &&Open| open.server == server && !open.in_use && open.idle_since + coarse <= idle_since;
        let older = state.open.values().filter(is_older).count();
        drop(state);
        if has_rested && older > 0 && !self.world.state().wait_queue.has_woken() {
            self.world.violated(format!("{older} connections that were idle for longer than a broken one are left"));
        }
    }

    pub(crate) fn ends(&self, mut conn: Conn, how: &'static str, end: impl FnOnce(Conn)) {
        self.world.record(Event::Ends { caller: self.number, conn: conn.id, how });
        self.world.state().counts.uses_ended += 1;
        conn.holder = None;
        // Without the world's lock.
        end(conn);
    }
}
