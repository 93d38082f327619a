//! Dials: each is a task of its own, and owns its permit and its probe.
//!
//! Nobody waits behind a dial. It is started for a reason, and whatever it brings goes to the caller in front of the
//! line, to the caller of `acquire_now` that it was reserved for, or to the pool.
//!
//! | reason | started by | how many |
//! |---|---|---|
//! | line | whoever finds callers waiting | those younger than the hedge delay never exceed the callers that wait |
//! | balance | a pass that met an empty server | one, if none is in flight there |
//! | reserved | `acquire_now` | one at once, a further one after each hedge delay or failure |
//! | probe | whoever finds the retry of a Down server due | one, by the health word |

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::thread::panicking;

use crate::clock::nanos;
use crate::conn_info::ConnInfo;
use crate::connector::Connector;
use crate::error::Failure;
use crate::raw::{Generation, Probe};
use crate::reserve::Reservation;
use crate::server::{Entry, LiveServer, Permit, Ring, Server, ServerProbe, near};
use crate::sync::{Arc, Ordering};

/// Why a dial is started, with what stands for it.
pub(crate) enum Reason<C: Connector> {
    Line(LineDial<C>),
    Balance,
    Reserved(Arc<Reservation<C>>),
    Probe,
}

/// A dial for the line under way. Counted while it lives, as young until it says that it is late.
pub(crate) struct LineDial<C: Connector> {
    ring: Arc<Ring<C>>,
    is_late: bool,
}

impl<C: Connector> LineDial<C> {
    /// Counts one more, if fewer young ones than the callers that wait are counted.
    fn begin(ring: &Arc<Ring<C>>) -> Option<Self> {
        let begin = |young| (young < ring.line.waiting()).then_some(young + 1);
        // Relaxed, here and below: plain counters; the fence is in `something_changed`.
        ring.young_dials.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin).ok()?;
        Some(Self { ring: Arc::clone(ring), is_late: false })
    }

    /// The hedge delay is over: it no longer counts as young.
    fn grow_late(&mut self) {
        self.is_late = true;
        self.ring.late_dials.fetch_add(1, Ordering::Relaxed);
        self.ring.young_dials.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Connector> Drop for LineDial<C> {
    fn drop(&mut self) {
        let counter = if self.is_late { &self.ring.late_dials } else { &self.ring.young_dials };
        counter.fetch_sub(1, Ordering::Relaxed);
        // One dial less for those who wait: the next may start.
        self.ring.something_changed();
    }
}

/// A dial under way. What it holds it gives back when dropped, finished or not.
struct Dial<C: Connector> {
    slot: DialSlot<C>,
    /// The server as it is registered now.
    target: Arc<Server>,
    permit: Option<Permit<C>>,
    probe: Option<ServerProbe<C>>,
    line: Option<LineDial<C>>,
    reservation: Option<Arc<Reservation<C>>>,
    generation: Generation,
    /// The number of the runtime that it was spawned on, once it was.
    runtime: Option<u64>,
    /// While it is polled: if it is dropped then, it panicked.
    polled: bool,
    finished: bool,
}

/// One of the server's `max_concurrent_connects_per_server`.
struct DialSlot<C: Connector> {
    server: Arc<LiveServer<C>>,
}

impl<C: Connector> Drop for DialSlot<C> {
    fn drop(&mut self) {
        self.server.end_dial();
        self.server.ring.room_made(&self.server);
    }
}

/// How a dial ended.
enum Outcome<C: Connector> {
    Connected(C::Conn),
    Refused(C::Error),
    TimedOut,
    Removed,
}

impl<C: Connector> Ring<C> {
    /// Starts a dial to `server`, if it has a permit and may be dialled, on a runtime that has not gone. Drops `reason`
    /// if not.
    ///
    /// No lock may be held: a runtime that has gone drops the task at once.
    pub(crate) fn dial(self: &Arc<Self>, server: &Arc<LiveServer<C>>, reason: Reason<C>) -> bool {
        if !self.is_attended() {
            // The end of the runtime that the connection belongs to must be noticed.
            self.start_upkeep();
        }
        let now_ns = self.clock.now_ns();
        let health = server.health.snapshot();
        let is_probe = matches!(reason, Reason::Probe);
        let is_balance = matches!(reason, Reason::Balance);
        let max_dials = if is_balance { 1 } else { self.settings.max_concurrent_connects_per_server };
        if health.is_up() == is_probe || server.pause.until() > now_ns || !server.begin_dial(max_dials) {
            return false;
        }
        let slot = DialSlot { server: Arc::clone(server) };
        let Some(permit) = Permit::take(server) else { return false };
        let (permit, generation) = (Some(permit), health.generation());
        let mut dial = Dial {
            slot,
            target: server.registered(),
            permit,
            probe: None,
            line: None,
            reservation: None,
            generation,
            runtime: None,
            polled: false,
            finished: false,
        };
        match reason {
            Reason::Line(line) => dial.line = Some(line),
            Reason::Balance => {}
            Reason::Reserved(reservation) => {
                reservation.begin();
                dial.reservation = Some(reservation);
            }
            Reason::Probe => {
                let Some(probe) = Probe::begin(Arc::clone(server), now_ns) else { return false };
                tracing::info!(pool = %self.name(), server = %server.address, state = "probing", "server is probed");
                dial.generation = probe.generation();
                dial.probe = Some(probe);
            }
        }
        let number = self.runtime.number();
        let spawned = self.runtime.spawn(move |runtime| {
            dial.runtime = Some(runtime);
            dial.run()
        });
        // A runtime that has gone dropped the task at once.
        spawned && self.runtime.number() == number
    }

    /// Starts dials for those who wait, as many as there may be.
    pub(crate) fn dial_for_line(self: &Arc<Self>) {
        loop {
            // Relaxed: hints; `begin` decides.
            let [young, late] = [&self.young_dials, &self.late_dials].map(|dials| dials.load(Ordering::Relaxed));
            let waiting = self.line.waiting();
            if young >= waiting {
                return;
            }
            let Some(server) = self.server_to_dial(true, young + late >= waiting) else { return };
            let Some(dial) = LineDial::begin(self) else { return };
            // Lost a race for the permit, or the runtime has gone? Then the drop of `dial` has rung, and somebody
            // comes back to this. Not here: the next runtime may be on its way out, too.
            if !self.dial(&server, Reason::Line(dial)) {
                return;
            }
        }
    }

    /// The next server that may be dialled, of those with the fewest dials in flight. A server without a token is
    /// dialled, if that is wanted, so that a connection is there when the token comes; but no more than one. A hedge,
    /// for those whose dial is late, goes to a server without dials in flight only.
    pub(crate) fn server_to_dial(&self, without_token: bool, is_hedge: bool) -> Option<Arc<LiveServer<C>>> {
        let now_ns = self.clock.now_ns();
        let list = self.list.load();
        let mut second_best: Option<&Arc<LiveServer<C>>> = None;
        let best = self.dial_cursor.pass(0, &list.up, |turn| {
            let server = &turn.server;
            if !server.health.snapshot().is_up() || !server.may_dial(now_ns) {
                return None;
            }
            let is_unattended = server.dialing() == 0;
            let is_ahead_of_token = without_token && is_unattended && server.idle.is_empty();
            if !is_ahead_of_token && !server.has_token(now_ns) {
                return None;
            }
            if !is_unattended {
                if !is_hedge && second_best.is_none_or(|best| server.dialing() < best.dialing()) {
                    second_best = Some(server);
                }
                return None;
            }
            Some(server)
        });
        best.or(second_best).cloned()
    }

    /// Starts the probes that are due.
    pub(crate) fn probe(self: &Arc<Self>, now_ns: u64) {
        self.forget_retries();
        let servers = Arc::clone(&self.list.load().servers);
        for server in servers.iter() {
            let Some(retry_at) = server.down_until() else { continue };
            let due_ns = retry_at.max(server.pause.until());
            if due_ns > now_ns {
                self.enter_retry(due_ns);
                continue;
            }
            if server.dialing() == self.settings.max_concurrent_connects_per_server {
                // From before it went down: the first that ends enters the retry again.
                continue;
            }
            if !server.permits.is_free() {
                // An idle connection makes room. If all are out, the first that comes back enters the retry again.
                drop(server.idle.pop(near()));
            }
            if server.may_dial(now_ns) {
                self.dial(server, Reason::Probe);
            }
        }
    }
}

impl<C: Connector> Dial<C> {
    async fn run(mut self) {
        let server = Arc::clone(&self.slot.server);
        let outcome = self.connect(&server).await;
        self.finish(outcome);
    }

    async fn connect(&mut self, server: &LiveServer<C>) -> Outcome<C> {
        let ring = &server.ring;
        let started_ns = ring.clock.now_ns();
        let mut removed = pin!(server.removed.notified());
        removed.as_mut().enable();
        // After `enable`: who removes the server from here on is heard.
        if server.idle.is_closed() {
            return Outcome::Removed;
        }
        self.polled = true;
        let target = Arc::clone(&self.target);
        let mut connect = pin!(ring.connector.connect(&target));
        let deadline_ns = started_ns.saturating_add(nanos(ring.settings.connect_timeout));
        let mut timeout = pin!(ring.clock.sleep_until_ns(deadline_ns));
        let mut hedge = pin!(ring.clock.sleep_until_ns(started_ns.saturating_add(nanos(ring.settings.hedge_delay))));
        poll_fn(|cx| {
            self.polled = true;
            if removed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Removed);
            }
            // Before the connector, which may use up the task's budget: then no timer is ever due.
            let is_over = timeout.as_mut().poll(cx).is_ready();
            let is_young = self.line.as_ref().is_some_and(|dial| !dial.is_late);
            let grows_late = is_young && hedge.as_mut().poll(cx).is_ready();
            if let Poll::Ready(result) = connect.as_mut().poll(cx) {
                return Poll::Ready(result.map_or_else(Outcome::Refused, Outcome::Connected));
            }
            if is_over {
                return Poll::Ready(Outcome::TimedOut);
            }
            if grows_late {
                // It no longer counts: the next server is dialled.
                self.line.iter_mut().for_each(LineDial::grow_late);
                ring.dial_for_line();
            }
            self.polled = false;
            Poll::Pending
        })
        .await
    }

    fn finish(mut self, outcome: Outcome<C>) {
        self.finished = true;
        let server = Arc::clone(&self.slot.server);
        let ring = &server.ring;
        match outcome {
            Outcome::Connected(conn) => {
                server.pause.clear();
                if let Some(probe) = self.probe.take() {
                    probe.succeeded();
                    server.on_trial();
                }
                if let Some(permit) = self.permit.take() {
                    let entry = self.entry(conn, permit);
                    match self.reservation.take() {
                        Some(reservation) => reservation.offer(ring, entry),
                        None => ring.offer(entry),
                    }
                }
            }
            Outcome::Refused(error) if !ring.connector.blames_server(&error) => server.dial_paused(error),
            Outcome::Refused(error) => self.fail(Failure::Connect(error)),
            Outcome::TimedOut => self.fail(Failure::ConnectTimeout { after: ring.settings.connect_timeout }),
            Outcome::Removed => {}
        }
        // The permit, the slot and what was counted go first, then the next dial starts in their place.
        drop(self);
        ring.serve();
    }

    fn entry(&self, conn: C::Conn, permit: Permit<C>) -> Box<Entry<C>> {
        let ring = &self.slot.server.ring;
        let now_ns = ring.clock.now_ns();
        let expires_at = ring.settings.max_lifetime.map_or(u64::MAX, |lifetime| {
            let jitter = 1.0 - ring.settings.max_lifetime_jitter_ratio * ring.random.draw();
            now_ns.saturating_add((nanos(lifetime) as f64 * jitter) as u64)
        });
        let (generation, runtime) = (self.generation, self.runtime.unwrap_or_default());
        let info = ConnInfo::new(Arc::clone(&self.target), now_ns);
        Box::new(Entry { conn, permit, generation, runtime, expires_at, info })
    }

    /// Counts the failure against the server.
    fn fail(&mut self, failure: Failure<C::Error>) {
        let server = &self.slot.server;
        match self.probe.take() {
            Some(probe) => server.probe_failed(probe, failure),
            None => server.dial_failed(self.generation, failure),
        }
    }
}

impl<C: Connector> Drop for Dial<C> {
    fn drop(&mut self) {
        if !self.finished {
            if self.polled {
                self.fail(Failure::ConnectPanicked);
            } else if let Some(runtime) = self.runtime.filter(|_| !panicking()) {
                self.slot.server.ring.runtime.lost(runtime);
            }
        }
        if let Some(reservation) = self.reservation.take() {
            reservation.failed();
        }
    }
}
