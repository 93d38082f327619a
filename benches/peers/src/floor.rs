//! The floor: the least work of an acquire and a release in a pool over several servers, written inline with connring's
//! primitives. It is the yardstick for connring and not a pool: it makes no connect attempts, tracks no health, limits
//! no connections and has no wait queue.
//!
//! An acquire loads the server list (`ArcSwap`), advances the cursor (`fetch_add`), reads the clock (quanta), checks
//! the token bucket, pops a connection (`ArrayQueue`) and takes the token (CAS). A release clones and drops the `Arc`
//! of the server, pushes the connection, fences and loads the number of waiters. Safe Rust requires the clone: the
//! connection that moves into the queue owns the other reference to the server. [`Floor::acquire_async`] also consumes
//! tokio's cooperative budget, as any future that may always be ready must.
//!
//! The floor was committed before connring was optimized, and `benches/instructions.sh` bounds its instruction count,
//! so that it cannot drift towards connring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;

pub struct Floor {
    shared: Arc<Shared>,
}

struct Shared {
    list: ArcSwap<Vec<Arc<Server>>>,
    cursor: AtomicUsize,
    waiting: AtomicUsize,
    clock: quanta::Clock,
    origin: u64,
}

struct Server {
    idle: ArrayQueue<Box<Conn>>,
    /// GCRA's theoretical arrival time, in nanoseconds.
    tat: AtomicU64,
    /// By how much one token advances `tat`, or `None` without a rate limit.
    interval_ns: Option<u64>,
    shared: Arc<Shared>,
}

/// A connection: its server, and a value instead of a socket.
pub struct Conn {
    server: Arc<Server>,
    pub value: u64,
}

/// How far `tat` may run ahead of the clock: a second's worth of tokens.
const BURST_NS: u64 = 1_000_000_000;

impl Floor {
    /// Makes `servers` servers with `conns` idle connections each, and a limit of one checkout per `interval_ns` if
    /// given.
    pub fn new(servers: usize, conns: usize, interval_ns: Option<u64>) -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        let list = ArcSwap::from_pointee(Vec::new());
        let shared =
            Arc::new(Shared { list, cursor: AtomicUsize::new(0), waiting: AtomicUsize::new(0), clock, origin });
        let make = |_| {
            let idle = ArrayQueue::new(conns);
            let server = Server { idle, tat: AtomicU64::new(0), interval_ns, shared: Arc::clone(&shared) };
            let server = Arc::new(server);
            for value in 0..conns as u64 {
                let conn = Box::new(Conn { server: Arc::clone(&server), value });
                assert!(server.idle.push(conn).is_ok(), "the queue has room for every connection");
            }
            server
        };
        shared.list.store(Arc::new((0..servers).map(make).collect()));
        Self { shared }
    }

    #[inline]
    pub fn acquire(&self) -> Option<Box<Conn>> {
        let shared = &*self.shared;
        let list = shared.list.load();
        if shared.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let server = &list[shared.cursor.fetch_add(1, Ordering::Relaxed) % list.len()];
        let Some(interval_ns) = server.interval_ns else { return server.idle.pop() };
        let now_ns = shared.clock.delta_as_nanos(shared.origin, shared.clock.raw());
        let mut tat = server.tat.load(Ordering::Relaxed);
        if tat > now_ns + BURST_NS {
            return None;
        }
        let conn = server.idle.pop()?;
        while tat <= now_ns + BURST_NS {
            let left = tat.max(now_ns) + interval_ns;
            match server.tat.compare_exchange_weak(tat, left, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(conn),
                Err(found) => tat = found,
            }
        }
        // The race for the last token is lost. A pool would return the connection to the queue.
        None
    }

    #[inline]
    pub async fn acquire_async(&self) -> Option<Box<Conn>> {
        tokio::task::coop::consume_budget().await;
        self.acquire()
    }
}

impl Conn {
    #[inline]
    pub fn release(self: Box<Self>) {
        let server = Arc::clone(&self.server);
        assert!(server.idle.push(self).is_ok(), "the queue has room for every connection");
        fence(Ordering::SeqCst);
        assert_eq!(server.shared.waiting.load(Ordering::Relaxed), 0, "the floor has no waiters");
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Breaks the reference cycles between servers and their connections.
        for server in self.shared.list.swap(Arc::default()).iter() {
            while server.idle.pop().is_some() {}
        }
    }
}
