//! A model of a small pool: two servers with one connection each, and the wait queue.

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;
use std::future::poll_fn;
use std::task::Poll;

use crate::check_large;
use crate::health::Tier;
use crate::raw::{Breaker, Idle, Permits, Signals, Time, WaitQueue};

struct Server {
    /// One shard, so `pop_own` suffices: it checks the shard once, where `pop` checks it twice.
    idle: Idle<Conn>,
    permits: Permits,
    breaker: Breaker,
}

/// A connection: the number of its server.
#[derive(Debug)]
struct Conn(usize);

struct Pool {
    servers: [Server; 2],
    /// The health of the servers.
    tier: Arc<Tier<2>>,
    signals: Arc<Signals>,
    queue: WaitQueue<Box<Conn>>,
    /// The closed connections, since a model frees no box while it runs: that an address comes back depends on the
    /// allocator, and not on the interleaving alone. A lock of std, as no operation of loom runs under it.
    closed: std::sync::Mutex<Vec<Box<Conn>>>,
}

/// How a caller ends the use of its connection.
#[derive(Clone, Copy)]
enum End {
    Release,
    Close,
    Fail,
}

impl Pool {
    fn new() -> Arc<Self> {
        let server = || Server { idle: Idle::new(1, 1, false), permits: Permits::new(1), breaker: Breaker::new() };
        let signals = Arc::new(Signals::new());
        let queue = WaitQueue::new(Arc::clone(&signals));
        Arc::new(Self { servers: [server(), server()], tier: Tier::new(), signals, queue, closed: Default::default() })
    }

    /// Makes an attempt that connects at once: the trial if the server is down.
    fn connect(this: &Arc<Self>, at: usize) -> Option<Box<Conn>> {
        let (server, health) = (&this.servers[at], &this.tier.health[at]);
        if !server.permits.begin(1) {
            return None;
        }
        let found = health.snapshot();
        if found.is_down() {
            let Some(trial) = server.breaker.begin_trial(Time::ZERO, false) else {
                server.permits.failed();
                Self::permit_released(this);
                return None;
            };
            server.breaker.succeeded(trial);
            health.begin_recovery(&this.tier.serving, found.outage(), Time::ZERO);
        }
        server.permits.connected();
        Some(Box::new(Conn(at)))
    }

    fn serve(this: &Arc<Self>) {
        this.queue.serve(|_| this.servers.iter().find_map(|server| server.idle.pop_own(0)));
        // Connects for the remaining waiters.
        for at in 0..this.servers.len() {
            if this.signals.waiters() == 0 {
                return;
            }
            if let Some(conn) = Self::connect(this, at) {
                Self::put(this, conn);
            }
        }
    }

    fn put(this: &Arc<Self>, conn: Box<Conn>) {
        let server = &this.servers[conn.0];
        server.idle.push(conn, 0, |_| panic!("the set is open and has room"));
        if this.signals.waiters() > 0 {
            this.queue.serve(|_| server.idle.pop_own(0));
        }
    }

    /// Serves waiters after the release of a permit.
    fn permit_released(this: &Arc<Self>) {
        if this.signals.waiters_after_change() > 0 {
            Self::serve(this);
        }
    }

    fn acquire(this: &Arc<Self>) -> Box<Conn> {
        let idle = if this.signals.waiters() == 0 {
            this.servers.iter().find_map(|server| server.idle.pop_own(0))
        } else {
            None
        };
        idle.unwrap_or_else(|| {
            let mut ticket = None;
            block_on(poll_fn(|cx| {
                let ticket = ticket.get_or_insert_with(|| {
                    let waker = Some(cx.waker().clone());
                    let ticket = this.queue.join(8, true, None, waker).expect("the queue has room");
                    Self::serve(this);
                    ticket
                });
                this.queue.poll(ticket, cx.waker()).map_or(Poll::Pending, Poll::Ready)
            }))
        })
    }

    fn end(this: &Arc<Self>, conn: Box<Conn>, end: End) {
        let Pool { tier, servers, closed, .. } = &**this;
        let permits = &servers[conn.0].permits;
        match end {
            End::Release => {
                tier.health[conn.0].end_recovery(tier.outage(conn.0));
                Self::put(this, conn);
            }
            End::Close | End::Fail => {
                if matches!(end, End::Fail) {
                    tier.connect_fails(conn.0, tier.outage(conn.0));
                }
                permits.release();
                closed.lock().expect("no thread panicked").push(conn);
                Self::permit_released(this);
            }
        }
    }
}

/// Property: every caller is served and nothing is lost. A caller that is never served is a deadlock, which loom
/// reports.
/// Threads: three acquire; one releases its connection, one closes it, one takes its server down.
/// Mutation that fails it: no fence in `WaitQueue::join`, or a released permit stays in use.
pub fn every_caller_is_served() {
    check_large(2, || {
        let pool = Pool::new();
        let act = |pool: &Arc<Pool>, end: End| {
            let conn = Pool::acquire(pool);
            Pool::end(pool, conn, end);
        };
        let actors = [End::Release, End::Close].map(|end| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || act(&pool, end))
        });
        act(&pool, End::Fail);
        for actor in actors {
            actor.join().unwrap();
        }
        assert_eq!(pool.signals.waiters(), 0);
        for server in &pool.servers {
            let counts = server.permits.counts();
            assert_eq!((counts.open() as usize, counts.connecting()), (server.idle.len(), 0), "a permit was lost");
        }
    });
}
