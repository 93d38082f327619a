//! The state outside the pool: time, servers, connect attempts, the wait queue as the callers see it, and the trace.
//!
//! The world never calls the pool with its lock held.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use connring::{Clock, CloseReason, Pool, PoolStatus};

use crate::health::{Begun, Health};
use crate::hooks::Recycle;
use crate::limits::Held;
use crate::net::SimConnector;
use crate::observer::{Dropped, Told};
use crate::orders::{Disabled, Drain};
use crate::plan::{Limits, Plan, stream};
use crate::reports::{Expected, Open};
use crate::rng::Rng;
use crate::wait_queue::WaitQueue;

pub(crate) const MS: u64 = 1_000_000;

/// An event, with the numbers of the callers, connections and servers involved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    AttemptBegins {
        attempt: u64,
        server: usize,
        is_probe: bool,
    },
    AttemptEnds {
        attempt: u64,
        server: usize,
        outcome: crate::health::Outcome,
    },
    ConnCloses {
        conn: u64,
        server: usize,
    },
    Calls {
        caller: u64,
        call: crate::caller::Call,
    },
    Joins {
        caller: u64,
    },
    Wakes {
        caller: u64,
    },
    Stalls {
        caller: u64,
        ms: u64,
    },
    GivesUp {
        caller: u64,
        on_wake: bool,
    },
    Fails {
        caller: u64,
        why: &'static str,
    },
    Gets {
        caller: u64,
        conn: u64,
        server: usize,
    },
    Asks {
        caller: u64,
        conn: u64,
        request: u64,
    },
    Answered {
        caller: u64,
        conn: u64,
    },
    Reports {
        caller: u64,
        conn: u64,
        is_success: bool,
    },
    Ends {
        caller: u64,
        conn: u64,
        how: &'static str,
    },
    Server {
        server: usize,
        becomes: crate::weather::Mode,
    },
    ServerDies {
        server: usize,
        told_after_ms: Option<u64>,
    },
    OwnFaults {
        begin: bool,
    },
    Lists {
        server: usize,
        max_conns: u32,
        rps: f64,
        tier: u32,
        is_new: bool,
    },
    Removes {
        server: usize,
    },
    SetsServers,
    /// A server is taken out of rotation, with an end or without.
    Disables {
        server: usize,
        ms: Option<u64>,
    },
    Enables {
        server: usize,
        by_time: bool,
    },
    Drains {
        server: usize,
        ms: u64,
    },
    Drained {
        server: usize,
        open: usize,
    },
    Recycles {
        conn: u64,
        server: usize,
    },
    Recycled {
        conn: u64,
        is_fit: bool,
    },
    SaysGoodbye {
        conn: u64,
        server: usize,
        why: connring::CloseReason,
    },
    SetsPolicy {
        policy: connring::LoadBalancing,
    },
    /// The same servers are removed and registered with the same limits.
    Flaps {
        at_once: bool,
    },
    /// All connections of a server close.
    Resets {
        server: usize,
    },
    AllGood,
    PoolCloses,
    /// The trace ends here.
    Violation,
}

/// A server, and the model of the pool's state of it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) mode: crate::weather::Mode,
    /// The number of its deaths.
    pub(crate) incarnation: usize,
    /// For each dead incarnation: the time at which its connections break, if ever.
    pub(crate) told_at: Vec<Option<u64>>,
    pub(crate) is_listed: bool,
    /// When it was listed, removed, disabled or enabled.
    pub(crate) listing_changed: u64,
    /// The pool's connections and running attempts, as the network sees them.
    pub(crate) open: u32,
    pub(crate) connecting: u32,
    /// Of the open connections: those that say goodbye.
    pub(crate) closing: u32,
    pub(crate) held: Held,
    pub(crate) health: Health,
    /// What the observer heard of its health last.
    pub(crate) heard: Told,
    pub(crate) disabled: Option<Disabled>,
    /// When an order or its end last put it back into rotation, or it was registered.
    pub(crate) enabled_at: u64,
    /// When it was last removed, or its connections were closed by order.
    pub(crate) reset_at: u64,
    /// The two by themselves, and when a caller last called one of its connections broken.
    pub(crate) removed_at: Option<u64>,
    pub(crate) emptied_at: Option<u64>,
    pub(crate) broken_at: Option<u64>,
    /// When it was last tried, and when while it was down.
    pub(crate) tried: u64,
    pub(crate) probed: u64,
    /// When something last happened to it.
    pub(crate) touched: u64,
}

/// What the pool's totals must say at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) uses_ended: u64,
    pub(crate) connects: u64,
    pub(crate) connect_failures: u64,
    pub(crate) connect_timeouts: u64,
    pub(crate) wait_timeouts: u64,
    pub(crate) queue_full: u64,
}

/// A running connect attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) server: usize,
    pub(crate) began: u64,
    pub(crate) begun: Begun,
    /// Its server was removed meanwhile.
    pub(crate) is_removed: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) servers: Vec<Server>,
    pub(crate) attempts: BTreeMap<u64, Attempt>,
    /// The pool's open connections.
    pub(crate) open: BTreeMap<u64, Open>,
    /// Connections that are recycled, and how many are checked.
    pub(crate) recycles: BTreeMap<u64, Recycle>,
    pub(crate) checks: u32,
    /// What must follow the recycles that failed.
    pub(crate) failed_recycles: BTreeMap<u64, Expected>,
    /// The connection that was dropped last, until the observer hears of it.
    pub(crate) dropped: Option<Dropped>,
    /// The closes that the observer heard of, by reason.
    pub(crate) closes: [u64; CloseReason::ALL.len()],
    /// The calls of `drain` that wait.
    pub(crate) drains: BTreeMap<u64, Drain>,
    pub(crate) all_disabled_since: Option<u64>,
    /// Since when no server serves.
    pub(crate) outage_since: Option<u64>,
    /// When the last call ended.
    pub(crate) call_ended: Option<u64>,
    /// When a call last ended without a connection: it may have passed one on.
    pub(crate) passed_on: Option<u64>,
    pub(crate) counts: Counts,
    /// Since when callers wait while no server serves.
    pub(crate) waits_since: Option<u64>,
    /// When a server served again after that.
    pub(crate) healed_at: Option<u64>,
    /// When the last trial of a server that is down began.
    pub(crate) last_probe: Option<u64>,
    pub(crate) wait_queue: WaitQueue,
    pub(crate) network: Rng,
    pub(crate) next_id: u64,
    pub(crate) own_faults: bool,
    pub(crate) is_calm: bool,
    pub(crate) is_closed: bool,
    /// The last time at which a token may have been taken without a checkout.
    pub(crate) tokens_touched: u64,
    pub(crate) trace: Vec<(u64, Event)>,
    /// The first violation.
    pub(crate) violation: Option<String>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) clock: Clock,
    state: Mutex<State>,
    pool: Mutex<Option<Pool<SimConnector>>>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let server = |index: usize| {
            let limits = plan.first_servers.get(index).copied().unwrap_or(Limits {
                max_conns: 1,
                rate: None,
                weight: 1,
                tier: 0,
            });
            Server {
                address: format!("server-{index}"),
                mode: crate::weather::Mode::Good,
                incarnation: 0,
                told_at: Vec::new(),
                is_listed: index < plan.first_servers.len(),
                listing_changed: 0,
                open: 0,
                connecting: 0,
                closing: 0,
                held: Held::new(limits),
                health: Health::new(&plan),
                heard: Told::UP,
                disabled: None,
                enabled_at: 0,
                tried: 0,
                probed: 0,
                reset_at: 0,
                removed_at: None,
                emptied_at: None,
                broken_at: None,
                touched: 0,
            }
        };
        let state = State {
            servers: (0..plan.servers).map(server).collect(),
            attempts: BTreeMap::new(),
            open: BTreeMap::new(),
            recycles: BTreeMap::new(),
            checks: 0,
            failed_recycles: BTreeMap::new(),
            dropped: None,
            closes: [0; CloseReason::ALL.len()],
            drains: BTreeMap::new(),
            all_disabled_since: None,
            outage_since: None,
            call_ended: None,
            passed_on: None,
            counts: Counts::default(),
            waits_since: None,
            healed_at: None,
            last_probe: None,
            wait_queue: WaitQueue::default(),
            network: Rng::new(plan.seed, stream::NETWORK),
            next_id: 0,
            own_faults: false,
            is_calm: false,
            is_closed: false,
            tokens_touched: 0,
            trace: Vec::new(),
            violation: None,
        };
        Self { plan, clock: Clock::tokio(), state: Mutex::new(state), pool: Mutex::new(None) }
    }

    /// The time in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().as_nanos() as u64
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_pool(&self, pool: Option<Pool<SimConnector>>) {
        let before = std::mem::replace(&mut *self.pool.lock().expect("the lock is not poisoned"), pool);
        drop(before);
    }

    pub(crate) fn pool(&self) -> Option<Pool<SimConnector>> {
        self.pool.lock().expect("the lock is not poisoned").clone()
    }

    pub(crate) fn record(&self, event: Event) {
        let now = self.now();
        self.state().trace.push((now, event));
    }

    pub(crate) fn violated(&self, what: String) {
        self.state().violated(what);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().violation.is_some()
    }

    /// The pool must count at least as many connections as the network sees: a permit is taken before a connection
    /// opens, and released after it closes.
    pub(crate) fn check_permits(&self, server: usize) {
        let Some(pool) = self.pool() else { return };
        self.check_permits_in(&pool.status(), server);
    }

    pub(crate) fn check_permits_in(&self, status: &PoolStatus, server: usize) {
        let mut state = self.state();
        let Server { address, open, .. } = &state.servers[server];
        // A draining server may be listed twice, if it was removed and registered again within an instant.
        let counted: u32 = status.servers.iter().filter(|s| *s.address == **address).map(|s| s.open).sum();
        if counted < *open {
            let what = format!("{address} sees {open} connections, the pool counts {counted}");
            state.violated(what);
        }
    }
}

impl State {
    pub(crate) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn violated(&mut self, what: String) {
        if self.violation.is_none() {
            let at = self.trace.last().map_or(0, |&(at, _)| at);
            self.trace.push((at, Event::Violation));
            self.violation = Some(what);
        }
    }

    pub(crate) fn find(&self, address: &str) -> usize {
        self.servers.iter().position(|server| server.address == address).expect("it is of this world")
    }

    pub(crate) fn listed(&self) -> usize {
        self.servers.iter().filter(|server| server.is_listed).count()
    }
}
