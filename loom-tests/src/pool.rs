//! The whole small pool: two servers with one connection each, and the line.

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;
use std::future::poll_fn;
use std::task::Poll;

use crate::check;
use crate::raw::{Health, Idle, Line, Permits, Probe, ProbeOwner, Snapshot};

struct Server {
    /// One stripe, so that what is near is all there is: `pop_near` looks at a slot once where `pop` does so twice.
    idle: Idle<Conn>,
    permits: Permits,
    health: Health,
}

/// A connection: the number of its server.
#[derive(Debug)]
struct Conn(usize);

struct Pool {
    servers: [Server; 2],
    line: Line<Conn>,
}

struct Owner(Arc<Pool>, usize);

impl ProbeOwner for Owner {
    fn health(&self) -> &Health {
        &self.0.servers[self.1].health
    }

    fn retry_at_after_drop(&self) -> u64 {
        0
    }

    fn probe_dropped(&self, _down: Snapshot) {}
}

/// What a caller does with its connection.
#[derive(Clone, Copy)]
enum End {
    Release,
    Close,
    Fail,
}

impl Pool {
    fn new() -> Arc<Self> {
        let server = || Server { idle: Idle::new(1, 1), permits: Permits::new(1), health: Health::new() };
        Arc::new(Self { servers: [server(), server()], line: Line::new() })
    }

    /// A dial that succeeds at once: a probe, if the server is down.
    fn dial(this: &Arc<Self>, at: usize) -> Option<Conn> {
        let server = &this.servers[at];
        if !server.permits.take() {
            return None;
        }
        if !server.health.snapshot().is_up() {
            match Probe::begin(Owner(Arc::clone(this), at), u64::MAX) {
                Some(probe) => probe.succeeded(),
                None => {
                    Self::free(this, at);
                    return None;
                }
            }
        }
        Some(Conn(at))
    }

    fn serve(this: &Arc<Self>) {
        this.line.serve(|| this.servers.iter().find_map(|server| server.idle.pop_near(0)));
        // Dials for those who still wait.
        for at in 0..this.servers.len() {
            if this.line.waiting() > 0 {
                if let Some(conn) = Self::dial(this, at) {
                    Self::put(this, conn);
                }
            }
        }
    }

    fn put(this: &Arc<Self>, conn: Conn) {
        let server = &this.servers[conn.0];
        server.idle.push(conn, 0, || false, |_| panic!("it is open and has room"));
        if this.line.waiting() > 0 {
            this.line.serve(|| server.idle.pop_near(0));
        }
    }

    fn free(this: &Arc<Self>, at: usize) {
        this.servers[at].permits.give_back();
        // Pairs with the fence of `Line::join`.
        fence(Ordering::SeqCst);
        if this.line.waiting() > 0 {
            Self::serve(this);
        }
    }

    fn acquire(this: &Arc<Self>) -> Conn {
        let idle = if this.line.waiting() == 0 {
            this.servers.iter().find_map(|server| server.idle.pop_near(0))
        } else {
            None
        };
        idle.unwrap_or_else(|| {
            let mut place = this.line.join(8).expect("there is room");
            Self::serve(this);
            block_on(poll_fn(|cx| match this.line.poll(&mut place, cx.waker()) {
                Some(conn) => Poll::Ready(conn),
                None => Poll::Pending,
            }))
        })
    }

    fn end(this: &Arc<Self>, conn: Conn, end: End) {
        let at = conn.0;
        let health = &this.servers[at].health;
        match end {
            End::Release => {
                health.released(health.snapshot().generation());
                Self::put(this, conn);
            }
            End::Close => Self::free(this, at),
            End::Fail => {
                health.reported(health.snapshot().generation(), 1, |_| 0);
                Self::free(this, at);
            }
        }
    }
}

/// Property: everybody is served and nothing is lost. A caller that is never served is a deadlock, which loom reports.
/// Threads: three acquire; one releases, one closes, one fails what it got.
/// Mutation that fails it: no fence in `Line::join`, or `give_back` gives nothing back.
pub fn everybody_is_served() {
    check(Some(2), || {
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
        assert_eq!(pool.line.waiting(), 0);
        for server in &pool.servers {
            assert_eq!(server.permits.open() as usize, server.idle.len(), "a permit without a connection");
        }
    });
}
