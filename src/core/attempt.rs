//! One connect attempt: a task of its own that owns its permit and, at a server that is down, its probe.
//!
//! No caller is blocked by an attempt, and an attempt touches no other server: it changes the words of its server,
//! hands over its connection and wakes the background task. An attempt whose caller left serves the next waiter.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::thread::panicking;

use crate::conn_info::ConnInfo;
use crate::connector::Connector;
use crate::core::attempt_counts::{Counted, Purpose};
use crate::core::hand_over;
use crate::core::membership;
use crate::core::shared::Shared;
use crate::core::transition::{self, ServerProbe};
use crate::error::Failure;
use crate::raw::{Outage, Time};
use crate::server::{ConnectPermit, Connection, Generation, Notifier, Server};
use crate::sync::Arc;

/// A running attempt. Its drop, finished or not, releases what it holds, in the order of the fields.
struct Attempt<C: Connector> {
    probe: Option<ServerProbe<C>>,
    permit: Option<ConnectPermit<C>>,
    counted: Counted,
    outage: Outage,
    /// The runtime number, once it was spawned.
    runtime: Option<u64>,
    /// True while it is polled. If it is dropped then, it panicked.
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
        self.0.wake_if_waiters();
    }
}

/// How an attempt ended.
enum Outcome<C: Connector> {
    Connected(C::Conn),
    Failed(C::Error),
    TimedOut,
    Ended,
}

/// Starts an attempt, if the server has a permit and may be connected to. True if it was spawned.
///
/// No lock may be held: a runtime that was shut down drops the task at once.
pub(crate) fn start<C: Connector>(shared: &Arc<Shared<C>>, generation: &Arc<Generation<C>>, purpose: Purpose) -> bool {
    let server = &generation.server;
    let health = server.health.snapshot();
    let is_probe = purpose == Purpose::Probe;
    // A probe needs a server that is down, any other attempt one that is up.
    if health.is_up() == is_probe || server.pause.until() > shared.clock.time() {
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
    // A runtime that was shut down dropped the task at once.
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
        let started = shared.clock.time();
        let mut ended = pin!(generation.epoch.over());
        ended.as_mut().enable();
        // After `enable`: a removal from here on is noticed.
        if generation.epoch.is_over() {
            return Outcome::Ended;
        }
        self.is_polled = true;
        let mut connect = pin!(shared.connector.connect(config));
        let mut timeout = pin!(shared.clock.sleep_until_time(started.after(shared.settings.connect_timeout)));
        let mut hedge = pin!(shared.clock.sleep_until_time(started.after(shared.settings.hedge_delay)));
        poll_fn(|cx| {
            self.is_polled = true;
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Ended);
            }
            // Before the connector: once it has used up the task's budget, no timer is ready.
            let is_over = timeout.as_mut().poll(cx).is_ready();
            let grows_late = self.counted.is_young() && hedge.as_mut().poll(cx).is_ready();
            if let Poll::Ready(result) = connect.as_mut().poll(cx) {
                return Poll::Ready(result.map_or_else(Outcome::Failed, Outcome::Connected));
            }
            if is_over {
                return Poll::Ready(Outcome::TimedOut);
            }
            if grows_late {
                // It no longer counts as young: another server is tried.
                self.counted.grow_late();
                shared.notifier.wake_if_waiters();
            }
            self.is_polled = false;
            Poll::Pending
        })
        .await
    }

    fn finish(mut self, outcome: Outcome<C>, config: Arc<Server>) {
        // Before it counts as finished: a panic in here is a fault of the server, like one in `connect`.
        let blames = matches!(&outcome, Outcome::Failed(error) if self.shared.connector.blames_server(error));
        self.is_finished = true;
        match outcome {
            Outcome::Connected(conn) => {
                self.generation.server.pause.clear();
                if let Some(probe) = self.probe.take() {
                    transition::probe_succeeded(&self.shared, &self.generation, probe);
                }
                if let Some(permit) = self.permit.take().and_then(ConnectPermit::connected) {
                    self.shared.servers.refresh(self.generation.number);
                    let info = ConnInfo::new(config, self.shared.clock.time());
                    let expires_at = expires_at(&self.shared, info.opened_at());
                    let conn = Connection { conn, permit, info, outage: self.outage, expires_at };
                    hand_over::offer(&self.shared, Box::new(conn));
                }
            }
            Outcome::Failed(error) if !blames => {
                transition::pause_connecting(&self.shared, &self.generation, error);
            }
            Outcome::Failed(error) => self.fail(Failure::Connect(error)),
            Outcome::TimedOut => self.fail(Failure::ConnectTimeout { after: self.shared.settings.connect_timeout }),
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
fn expires_at<C: Connector>(shared: &Shared<C>, opened_at: Time) -> Time {
    shared.settings.max_lifetime.map_or(Time::NEVER, |lifetime| {
        let jitter = 1.0 - shared.settings.max_lifetime_jitter_ratio * shared.random.draw();
        opened_at.after(lifetime.mul_f64(jitter))
    })
}

impl<C: Connector> Drop for Attempt<C> {
    fn drop(&mut self) {
        if !self.is_finished {
            if self.is_polled {
                self.fail(Failure::ConnectPanicked);
            } else if let Some(runtime) = self.runtime.filter(|_| !panicking()) {
                membership::runtime_lost(&self.shared, runtime);
            }
        }
    }
}
