//! The floor: what a pool over several servers must do for each acquire and release, written inline with the same
//! primitives as connring and nothing around them. It is what connring is measured against, and no pool: it does not
//! dial, has no health, limits no connections and serves nobody who waits.
//!
//! Acquire: load the list (`ArcSwap`), take a turn (`fetch_add`), read the clock (quanta), look at the token bucket,
//! pop (`ArrayQueue`), take the token (CAS). Release: take hold of the server, since the connection that goes into the
//! queue owns the reference to it (`Arc` clone and drop: safe Rust has no other way), push, fence, look for callers
//! that wait. [`Floor::acquire_async`] spends tokio's cooperative budget besides, as each future that may always be
//! ready must.
//!
//! It was committed before connring was made fast, and its own instruction count is gated, so that it cannot grow to
//! meet connring.

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
    /// GCRA's theoretical arrival time in nanoseconds, and what a token adds to it, if there is a limit.
    tat: AtomicU64,
    interval_ns: Option<u64>,
    shared: Arc<Shared>,
}

/// A connection: what it is a connection to, and a value in the place of a socket.
pub struct Conn {
    server: Arc<Server>,
    pub value: u64,
}

/// How far `tat` may run ahead of the clock: a second's worth of tokens.
const BURST_NS: u64 = 1_000_000_000;

impl Floor {
    /// `servers` servers with `conns` connections each, and a limit of one connection per `interval_ns` if given.
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
                assert!(server.idle.push(conn).is_ok(), "the queue has room for all");
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
        // Lost the race for the last token. A pool would put the connection back.
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
        assert!(server.idle.push(self).is_ok(), "the queue has room for all");
        fence(Ordering::SeqCst);
        assert_eq!(server.shared.waiting.load(Ordering::Relaxed), 0, "nobody waits at the floor");
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // The servers and their connections refer to each other.
        for server in self.shared.list.swap(Arc::default()).iter() {
            while server.idle.pop().is_some() {}
        }
    }
}
