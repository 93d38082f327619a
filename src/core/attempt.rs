//! One connect attempt: a task of its own that owns its permit and, at a server that is down, its probe.
//!
//! No caller waits behind an attempt, and an attempt knows no other server: it ends, changes the words of its server,
//! hands over its connection and wakes the background task. An attempt whose caller left serves the next waiter.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::thread::panicking;

use crate::clock::nanos;
use crate::conn_info::ConnInfo;
use crate::connector::{ConnectFault, Connector, look_up};
use crate::core::attempts::{Counted, Purpose};
use crate::core::change;
use crate::core::hand_over;
use crate::core::shared::Shared;
use crate::core::transition::{self, ServerProbe};
use crate::error::Failure;
use crate::raw::Outage;
use crate::server::{ConnectPermit, Connection, Generation, Notifier, Server};
use crate::sync::Arc;

/// An attempt that runs. What it holds it releases when dropped, finished or not, in the order of the fields.
struct Attempt<C: Connector> {
    probe: Option<ServerProbe<C>>,
    permit: Option<ConnectPermit<C>>,
    counted: Counted,
    outage: Outage,
    /// The number of the runtime that it was spawned on, once it was.
    runtime: Option<u64>,
    /// While it is polled: if it is dropped then, it panicked.
    is_polled: bool,
    is_finished: bool,
    generation: Arc<Generation<C>>,
    shared: Arc<Shared<C>>,
    _end: WakeAtEnd,
}

/// The end of an attempt lets the next one start.
struct WakeAtEnd(Arc<Notifier>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        self.0.changed();
    }
}

/// How an attempt ended.
enum Outcome<C: Connector> {
    Connected(C::Conn),
    Failed(C::Error),
    TimedOut,
    /// While a look-up of this name ran.
    LookUpTimedOut(Arc<str>),
    Ended,
}

/// Starts an attempt, if the server has a permit and may be connected to, on a runtime that has not gone.
///
/// No lock may be held: a runtime that has gone drops the task at once.
pub(crate) fn start<C: Connector>(shared: &Arc<Shared<C>>, generation: &Arc<Generation<C>>, purpose: Purpose) -> bool {
    let server = &generation.server;
    let health = server.health.snapshot();
    let is_probe = purpose == Purpose::Probe;
    if health.is_up() == is_probe || server.pause.until() > shared.clock.now_ns() {
        return false;
    }
    let most = match purpose {
        Purpose::Balance => 1,
        Purpose::Waiters | Purpose::Probe => shared.settings.max_concurrent_connects_per_server,
    };
    let Some(permit) = ConnectPermit::take(generation, most) else { return false };
    let Some(counted) = shared.attempts.begin(purpose, shared.notifier.signals.waiters()) else { return false };
    let mut attempt = Attempt {
        probe: None,
        permit: Some(permit),
        counted,
        outage: health.outage(),
        runtime: None,
        is_polled: false,
        is_finished: false,
        generation: Arc::clone(generation),
        shared: Arc::clone(shared),
        _end: WakeAtEnd(Arc::clone(&shared.notifier)),
    };
    if is_probe {
        let Some(probe) = transition::begin_probe(shared, generation) else {
            attempt.is_finished = true;
            return false;
        };
        attempt.outage = probe.outage();
        attempt.probe = Some(probe);
    }
    let number = shared.runtime.number();
    let spawned = shared.runtime.spawn(move |runtime| {
        attempt.runtime = Some(runtime);
        attempt.run()
    });
    // A runtime that has gone dropped the task at once.
    spawned && shared.runtime.number() == number
}

impl<C: Connector> Attempt<C> {
    async fn run(mut self) {
        let config = self.generation.server.config();
        let outcome = self.connect(&config).await;
        self.finish(outcome, config);
    }

    async fn connect(&mut self, config: &Server) -> Outcome<C> {
        let shared = Arc::clone(&self.shared);
        let generation = Arc::clone(&self.generation);
        let started_ns = shared.clock.now_ns();
        let mut ended = pin!(generation.epoch.over());
        ended.as_mut().enable();
        // After `enable`: a removal from here on is heard.
        if generation.epoch.is_over() {
            return Outcome::Ended;
        }
        self.is_polled = true;
        let mut connect = pin!(look_up::watched(shared.connector.connect(config)));
        let after = |duration| started_ns.saturating_add(nanos(duration));
        let mut timeout = pin!(shared.clock.sleep_until_ns(after(shared.settings.connect_timeout)));
        let mut hedge = pin!(shared.clock.sleep_until_ns(after(shared.settings.hedge_delay)));
        poll_fn(|cx| {
            self.is_polled = true;
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Ended);
            }
            // Before the connector, which may use up the task's budget: then no timer is ever due.
            let is_over = timeout.as_mut().poll(cx).is_ready();
            let grows_late = self.counted.is_young() && hedge.as_mut().poll(cx).is_ready();
            if let Poll::Ready(result) = connect.as_mut().poll(cx) {
                return Poll::Ready(result.map_or_else(Outcome::Failed, Outcome::Connected));
            }
            if is_over {
                let looks_up = look_up::running(connect.as_mut());
                return Poll::Ready(looks_up.map_or(Outcome::TimedOut, Outcome::LookUpTimedOut));
            }
            if grows_late {
                // It no longer counts: another server is tried.
                self.counted.grow_late();
                shared.notifier.changed();
            }
            self.is_polled = false;
            Poll::Pending
        })
        .await
    }

    fn finish(mut self, outcome: Outcome<C>, config: Arc<Server>) {
        // Before it counts as finished: a panic of the user's is a fault of the server, as one in `connect` is.
        let fault = match &outcome {
            Outcome::Failed(error) => self.shared.connector.classify(error),
            _ => ConnectFault::Server,
        };
        self.is_finished = true;
        match outcome {
            Outcome::Connected(conn) => {
                self.generation.server.pause.clear();
                if let Some(probe) = self.probe.take() {
                    transition::probe_succeeded(&self.shared, &self.generation, probe);
                }
                if let Some(permit) = self.permit.take().and_then(ConnectPermit::connected) {
                    self.shared.servers.follow(self.generation.number);
                    let info = ConnInfo::new(config, self.shared.clock.now_ns());
                    let expires_at = expires_at(&self.shared, info.opened_at());
                    let conn = Connection { conn, permit, info, outage: self.outage, expires_at };
                    hand_over::offer(&self.shared, Box::new(conn));
                }
            }
            Outcome::Failed(error) if fault == ConnectFault::Client => {
                transition::paused(&self.shared, &self.generation, Failure::Connect(error));
            }
            Outcome::Failed(error) => self.fail(Failure::Connect(error)),
            Outcome::TimedOut => self.fail(Failure::ConnectTimeout { after: self.shared.settings.connect_timeout }),
            Outcome::LookUpTimedOut(host) => {
                let after = self.shared.settings.connect_timeout;
                transition::paused(&self.shared, &self.generation, Failure::LookUpTimeout { host, after });
            }
            Outcome::Ended => {}
        }
    }

    /// Counts the failure against the server.
    fn fail(&mut self, failure: Failure<C::Error>) {
        match self.probe.take() {
            Some(probe) => transition::probe_failed(&self.shared, &self.generation, probe, failure),
            None => transition::connect_failed(&self.shared, &self.generation, self.outage, failure),
        }
    }
}

/// When the lifetime of a connection ends, with a jitter drawn once.
fn expires_at<C: Connector>(shared: &Shared<C>, opened_at: u64) -> u64 {
    shared.settings.max_lifetime.map_or(u64::MAX, |lifetime| {
        let jitter = 1.0 - shared.settings.max_lifetime_jitter_ratio * shared.random.draw();
        opened_at.saturating_add((nanos(lifetime) as f64 * jitter) as u64)
    })
}

impl<C: Connector> Drop for Attempt<C> {
    fn drop(&mut self) {
        if !self.is_finished {
            if self.is_polled {
                self.fail(Failure::ConnectPanicked);
            } else if let Some(runtime) = self.runtime.filter(|_| !panicking()) {
                change::runtime_lost(&self.shared, runtime);
            }
        }
    }
}
