//! The measured pools, one file each. All do the same work: check out and return a number, without I/O and without a
//! check, in their fastest settings.

mod bb8;
mod connring;
mod deadpool;
mod fast_pool;
mod floor;
mod mobc;
mod pingora_pool;
mod r2d2;

use std::hint::black_box;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

pub use self::bb8::Bb8;
pub use self::connring::{Apart, Connring, Numbers, Setup, background};
pub use self::deadpool::Deadpool;
pub use self::fast_pool::FastPool;
pub use self::mobc::Mobc;
pub use self::pingora_pool::PingoraPool;
pub use self::r2d2::{R2d2, R2d2Try};

/// A synchronous pool with an idle connection at every call.
pub trait Sync: std::marker::Sync + Send + 'static {
    type Conn<'a>;
    fn acquire(&self) -> Self::Conn<'_>;
    fn value(conn: &Self::Conn<'_>) -> u64;
    fn release(&self, conn: Self::Conn<'_>);
}

/// An asynchronous pool.
pub trait Async: std::marker::Sync + Send + 'static {
    type Conn<'a>: Send;
    fn acquire(&self) -> impl Future<Output = Self::Conn<'_>> + Send;
    fn value(conn: &Self::Conn<'_>) -> u64;
    fn release(&self, conn: Self::Conn<'_>);
}

/// Cycles between two calls of `more`.
const BATCH: u64 = 100;

/// Runs cycles: an acquire and a release each.
pub trait Cycles: Send + std::marker::Sync {
    /// Runs cycles on this thread until `more` returns `false`. Returns their number.
    fn run(&self, more: &mut dyn FnMut() -> bool) -> u64;
}

struct BySync<P>(P);
struct ByAsync<P>(P);

impl<P: Sync> Cycles for BySync<P> {
    fn run(&self, more: &mut dyn FnMut() -> bool) -> u64 {
        let mut cycles = 0;
        while more() {
            for _ in 0..BATCH {
                let conn = self.0.acquire();
                black_box(P::value(&conn));
                self.0.release(conn);
            }
            cycles += BATCH;
        }
        cycles
    }
}

impl<P: Async> Cycles for ByAsync<P> {
    fn run(&self, more: &mut dyn FnMut() -> bool) -> u64 {
        current_thread().block_on(async {
            let mut cycles = 0;
            while more() {
                for _ in 0..BATCH {
                    let conn = self.0.acquire().await;
                    black_box(P::value(&conn));
                    self.0.release(conn);
                }
                cycles += BATCH;
            }
            cycles
        })
    }
}

/// A named contestant.
pub struct Contestant {
    pub name: String,
    pub is_async: bool,
    pub cycles: Box<dyn Cycles>,
}

impl Contestant {
    pub fn by_sync(name: impl Into<String>, pool: impl Sync) -> Self {
        Self { name: name.into(), is_async: false, cycles: Box::new(BySync(pool)) }
    }

    pub fn by_async(name: impl Into<String>, pool: impl Async) -> Self {
        Self { name: name.into(), is_async: true, cycles: Box::new(ByAsync(pool)) }
    }

    /// Runs cycles on this thread for about `span`. Returns the mean time of a cycle in nanoseconds.
    pub fn nanoseconds(&self, span: Duration) -> f64 {
        let mut begin = None;
        let mut elapsed = Duration::ZERO;
        let cycles = self.cycles.run(&mut || {
            let now = Instant::now();
            elapsed = now - *begin.get_or_insert(now);
            elapsed < span
        });
        elapsed.as_nanos() as f64 / cycles as f64
    }
}

/// Returns the other pools, each with `conns` connections.
pub fn peers(conns: u32) -> Vec<Contestant> {
    vec![
        Contestant::by_sync("r2d2", R2d2::new(conns)),
        Contestant::by_sync("r2d2, try_get", R2d2Try::new(conns)),
        Contestant::by_sync("pingora-pool", PingoraPool::new(conns)),
        Contestant::by_async("deadpool", Deadpool::new(conns)),
        Contestant::by_async("bb8", Bb8::new(conns)),
        Contestant::by_async("fast_pool", FastPool::new(conns)),
        Contestant::by_async("mobc", Mobc::new(conns)),
    ]
}

pub fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Checks out all connections of a pool at once and returns them, so that all are open and idle.
fn open_all<P: Async>(pool: &P, conns: u32) {
    current_thread().block_on(async {
        let mut held = Vec::new();
        for _ in 0..conns {
            held.push(pool.acquire().await);
        }
        held.into_iter().for_each(|conn| pool.release(conn));
        // mobc returns a connection in a spawned task.
        tokio::task::yield_now().await;
    });
}
