//! One connect attempt: a task of its own that owns its permit and its pass.
//!
//! No caller waits behind an attempt, and an attempt knows no other server: it ends, changes the words of its server,
//! hands over its connection and wakes the background task. An attempt whose caller left serves the next waiter.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::thread::panicking;
use std::time::Duration;

use crate::clock::Clock;
use crate::conn_info::ConnInfo;
use crate::connector::{ConnectFault, Connector, look_up};
use crate::core::attempt_counts::{Counted, Runs};
use crate::core::closing::close;
use crate::core::hand_over;
use crate::core::hook::time_out;
use crate::core::idle_conns::{make_idle, why_outdated};
use crate::core::look_again::LookAtEnd;
use crate::core::membership;
use crate::core::shared::Shared;
use crate::core::spill;
use crate::core::transition::{self, Begun};
use crate::error::Failure;
use crate::raw::Time;
use crate::server::{ConnRecord, ConnectPermit, Connection, Generation, Server, Total, quietly};
use crate::status::StateKind;
use crate::sync::Arc;

/// Timers have steps of a millisecond.
const SHORTEST_LINGER: Duration = Duration::from_millis(1);

/// What an attempt is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Callers in the wait queue.
    Waiters,
    /// A server that a caller found empty.
    Balance,
    /// A server that is to have connections ahead of its callers.
    Maintenance,
    /// A server that is down.
    Probe {
        /// Before its pause is over.
        ahead: bool,
    },
}

/// An attempt that runs. What it holds it releases when dropped, finished or not, in the order of the fields.
struct Attempt<C: Connector> {
    begun: Begun,
    permit: Option<ConnectPermit<C>>,
    counted: Counted,
    /// When its connect began.
    started: Time,
    /// The number of the runtime that it was spawned on, once it was.
    runtime: Option<u64>,
    /// While it is polled: if it is dropped then, it panicked.
    is_polled: bool,
    is_finished: bool,
    end: LookAtEnd<C>,
}

/// See [`Attempt::linger`].
struct Linger<C: Connector> {
    generation: Arc<Generation<C>>,
    clock: Clock,
    until: Time,
    _counted: Counted,
}

impl<C: Connector> Linger<C> {
    fn new(attempt: &Attempt<C>, time: Duration, counted: Counted) -> Self {
        let LookAtEnd { generation, shared } = &attempt.end;
        let (generation, clock) = (Arc::clone(generation), shared.clock.clone());
        generation.server.lingering.raise();
        let until = clock.time().after(time);
        Self { generation, clock, until, _counted: counted }
    }

    async fn end(self) {
        self.clock.until(self.until, self.generation.over()).await;
    }
}

impl<C: Connector> Drop for Linger<C> {
    fn drop(&mut self) {
        // The end of `_counted` wakes the background task for those who wait.
        self.generation.server.lingering.lower();
    }
}

/// How an attempt ended.
enum Outcome<C: Connector> {
    Connected(C::Conn),
    Failed(C::Error),
    TimedOut,
    /// While a look-up of this name ran.
    LookUpTimedOut(Arc<str>),
    /// The server was removed or reset.
    Ended,
}

/// Starts an attempt, if the server has a permit and may be connected to. True if it was spawned.
///
/// No lock may be held: a runtime that was shut down drops the task at once.
pub(crate) fn start<C: Connector>(shared: &Arc<Shared<C>>, generation: &Arc<Generation<C>>, purpose: Purpose) -> bool {
    begin(shared, generation, purpose, || match purpose {
        Purpose::Waiters => shared.attempts.begin_for_waiters(),
        Purpose::Probe { .. } => Some(shared.attempts.begin(Runs::Probe)),
        Purpose::Balance | Purpose::Maintenance => Some(shared.attempts.begin(Runs::Other)),
    })
}

/// Starts the attempt of an order, as [`start`] does. One that does not start ends the order.
pub(crate) fn start_order<C: Connector>(
    shared: &Arc<Shared<C>>,
    generation: &Arc<Generation<C>>,
    order: Counted,
) -> bool {
    begin(shared, generation, Purpose::Waiters, || Some(order))
}

fn begin<C: Connector>(
    shared: &Arc<Shared<C>>,
    generation: &Arc<Generation<C>>,
    purpose: Purpose,
    count: impl FnOnce() -> Option<Counted>,
) -> bool {
    let (server, now) = (&generation.server, shared.clock.time());
    let health = server.health.snapshot();
    let most = shared.settings.max_concurrent_connects_per_server;
    let most = match purpose {
        Purpose::Probe { .. } if health.is_down() && !health.is_disabled() => most,
        Purpose::Waiters => server.most_attempts(most),
        Purpose::Balance => server.most_attempts(1),
        Purpose::Maintenance if health.is_plainly_up() => most,
        _ => 0,
    };
    let Some(permit) = ConnectPermit::take(generation, most) else { return false };
    let Some(counted) = count() else { return false };
    let pass = match purpose {
        Purpose::Probe { ahead } => server.breaker.begin_trial(now, ahead),
        _ => server.breaker.begin(now),
    };
    let Some(pass) = pass else { return false };
    let mut attempt = Attempt {
        begun: Begun { pass, outage: health.outage(), tick: shared.coarse_time() },
        permit: Some(permit),
        counted,
        started: now,
        runtime: None,
        is_polled: false,
        is_finished: false,
        end: LookAtEnd::of(shared, generation),
    };
    if matches!(purpose, Purpose::Probe { .. }) {
        server.tell_state(StateKind::Probing, "server is probed");
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
        let config = self.end.generation.server.config();
        let outcome = self.connect(&config).await;
        // Before `finish` frees its place.
        let linger = matches!(outcome, Outcome::Connected(_)).then(|| self.linger()).flatten();
        self.finish(outcome, config);
        if let Some(linger) = linger {
            linger.end().await;
        }
    }

    /// One for waiters keeps its place among the attempts of its server for a moment, of a tenth of the usual connect
    /// time: what was just opened may come back soon and serve those that still wait.
    fn linger(&self) -> Option<Linger<C>> {
        let LookAtEnd { generation, shared } = &self.end;
        let time = generation.server.connect_time() / 10;
        let is_due = self.counted.is_for_waiters() && time >= SHORTEST_LINGER;
        // Counted, so that callers of `acquire_now` wait for it: an attempt can start afterwards.
        is_due.then(|| Linger::new(self, time, shared.attempts.begin(Runs::Other)))
    }

    /// Connects; a probe also asks the connector to check the connection.
    async fn connect(&mut self, config: &Server) -> Outcome<C> {
        let LookAtEnd { generation, shared } = &self.end;
        let (generation, shared) = (Arc::clone(generation), Arc::clone(shared));
        let started = shared.clock.time();
        self.started = started;
        let mut ended = pin!(generation.over());
        let is_probe = generation.server.health.snapshot().is_down();
        let mut connect = pin!(look_up::watched(async {
            let mut conn = shared.connector.connect(config).await?;
            if is_probe {
                shared.connector.check(&mut conn).await?;
            }
            Ok(conn)
        }));
        let mut timeout = pin!(time_out(&shared.clock, shared.settings.connect_timeout));
        let mut hedge = pin!(shared.clock.sleep_until_time(started.after(self.hedge_delay())));
        let outcome = poll_fn(|cx| {
            self.is_polled = true;
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Ended);
            }
            // Before the connector, which may use up the task's budget: a timer that is polled after that is never due.
            let is_over = timeout.as_mut().poll(cx).is_ready();
            let grows_late = self.counted.is_young() && (hedge.as_mut().poll(cx).is_ready() || !self.helps());
            if let Poll::Ready(result) = connect.as_mut().poll(cx) {
                return Poll::Ready(result.map_or_else(Outcome::Failed, Outcome::Connected));
            }
            if is_over {
                let looks_up = look_up::running(connect.as_mut());
                return Poll::Ready(looks_up.map_or(Outcome::TimedOut, Outcome::LookUpTimedOut));
            }
            if grows_late {
                generation.server.late.raise();
                self.counted.grow_late();
            }
            self.is_polled = false;
            Poll::Pending
        })
        .await;
        if let Outcome::Connected(_) = outcome {
            generation.server.note_connect_time(self.took());
        }
        outcome
    }

    /// The setting, else the larger of 100 ms and twice what connecting to the server takes.
    fn hedge_delay(&self) -> Duration {
        let LookAtEnd { generation, shared } = &self.end;
        let usual = generation.server.connect_time();
        let delay = shared.settings.hedge_after(usual);
        // A waiter whose orders grew late each time would lose each token.
        if self.counted.is_order() { delay.max(usual * 2) } else { delay }
    }

    /// Whether callers may use what it opens. Its server may have been disabled or moved to another tier.
    fn helps(&self) -> bool {
        let LookAtEnd { generation, shared } = &self.end;
        spill::helps(shared, &shared.servers.list(), &generation.server, shared.clock.time())
    }

    /// How long it has run.
    fn took(&self) -> Duration {
        self.end.shared.clock.time().since(self.started)
    }

    fn finish(mut self, outcome: Outcome<C>, config: Arc<Server>) {
        let LookAtEnd { generation, shared } = &self.end;
        let server = &generation.server;
        // Before it counts as finished, so that a panic of `classify` counts as a failed connect.
        let fault = match &outcome {
            Outcome::Failed(error) => shared.connector.classify(error),
            Outcome::LookUpTimedOut(_) => ConnectFault::Client,
            _ => ConnectFault::Server,
        };
        self.is_finished = true;
        match outcome {
            Outcome::Connected(conn) => {
                let took = self.took();
                server.count(Total::Connects, 1);
                transition::connected(shared, generation, self.begun);
                let opened_at = shared.clock.time();
                let info = ConnInfo::new(Arc::clone(&config), opened_at);
                let record = self.permit.take().and_then(|permit| ConnRecord::new(permit, info, self.begun.outage));
                if let Some(record) = record {
                    shared.servers.refresh(generation.number());
                    let connector = Arc::clone(&shared.connector);
                    let expires_at = expires_at(shared, generation, opened_at);
                    let conn = Connection::new(conn, connector, record, expires_at);
                    // First: its end comes after it, also as an event.
                    server.tell_opened(&config, took);
                    deliver(shared, Box::new(conn));
                }
            }
            Outcome::Failed(error) => self.fail(Failure::Connect(error), fault),
            Outcome::TimedOut => {
                let after = shared.settings.connect_timeout;
                self.fail(Failure::ConnectTimeout { after }, fault);
            }
            Outcome::LookUpTimedOut(host) => {
                let after = shared.settings.connect_timeout;
                self.fail(Failure::LookUpTimeout { host, after }, fault);
            }
            Outcome::Ended => self.abandon(),
        }
    }

    fn fail(&self, failure: Failure<C::Error>, fault: ConnectFault) {
        let LookAtEnd { generation, shared } = &self.end;
        let server = &generation.server;
        server.count(Total::ConnectFailures, 1);
        if matches!(failure, Failure::ConnectTimeout { .. } | Failure::LookUpTimeout { .. }) {
            server.count(Total::ConnectTimeouts, 1);
        }
        let (failure, took) = (Arc::new(failure), self.took());
        transition::connect_failed(shared, generation, self.begun, fault, Arc::clone(&failure));
        server.tell_connect_failed(&server.config(), &failure, took);
    }

    fn abandon(&self) {
        transition::abandoned(&self.end.shared, &self.end.generation, self.begun.pass);
    }
}

impl<C: Connector> Drop for Attempt<C> {
    fn drop(&mut self) {
        if self.counted.is_late() {
            self.end.generation.server.late.lower();
        }
        if self.is_finished {
            return;
        }
        if self.is_polled {
            self.is_finished = true;
            // It runs user code: a second panic would end the process.
            quietly(|| self.fail(Failure::ConnectPanicked, ConnectFault::Server));
            return;
        }
        self.abandon();
        if let Some(runtime) = self.runtime.filter(|_| !panicking()) {
            membership::runtime_lost(&self.end.shared, runtime);
        }
    }
}

/// Delivers a new connection: to the front waiter, otherwise to the idle queue. Closes one whose attempt began before
/// an outage that is over.
fn deliver<C: Connector>(shared: &Shared<C>, conn: Box<Connection<C>>) {
    match why_outdated(&conn) {
        Some(why) => close(conn, why),
        None => hand_over::offer(shared, conn).into_iter().for_each(make_idle),
    }
}

/// When the lifetime of a connection ends. The lifetimes of a server's connections are spread evenly over the jitter.
fn expires_at<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, opened_at: Time) -> Time {
    shared.settings.max_lifetime.map_or(Time::NEVER, |lifetime| {
        let index = generation.server.idle_history().next_lifetime();
        let jitter = shared.settings.max_lifetime_jitter_ratio * shared.random.spread(generation.number(), index);
        opened_at.after(lifetime.mul_f64(1.0 - jitter))
    })
}
