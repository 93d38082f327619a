//! Servers that fail in one way each, and callers that use them for a while.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::{BoxConnector, Builder, Clock, Connector, Pool, Server, connect_fn};
use tokio::time::{Instant, sleep, timeout};

pub(super) type FakePool = Pool<BoxConnector<Conn>>;

/// A server that counts its connections. It accepts and answers until it is told otherwise.
#[derive(Debug, Default)]
pub(super) struct Fake {
    /// Connects are refused.
    pub(super) refuses: AtomicBool,
    /// Connections are accepted, and requests hang.
    pub(super) hangs: AtomicBool,
    /// Connects are refused while so many connections are open; 0: no limit.
    pub(super) limit: AtomicUsize,
    pub(super) open: AtomicUsize,
    pub(super) answers: AtomicUsize,
    /// Requests that met it while it hung.
    pub(super) stuck: AtomicUsize,
    pub(super) connects: Mutex<Vec<Instant>>,
    /// Connections of before a restart are dead.
    restarts: AtomicU64,
}

impl Fake {
    pub(super) fn set(&self, flag: impl Fn(&Self) -> &AtomicBool, on: bool) {
        flag(self).store(on, Ordering::Relaxed);
    }

    /// Restarts unseen: each open connection is dead, and nothing says so.
    pub(super) fn restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connects_since(&self, start: Instant) -> usize {
        self.connects.lock().expect("no panic").iter().filter(|&&at| at >= start).count()
    }

    pub(super) fn answered(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    pub(super) fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Relaxed)
    }
}

/// A connection to a [`Fake`].
#[derive(Debug)]
pub(super) struct Conn {
    server: Arc<Fake>,
    restarts: u64,
}

impl Conn {
    /// A request that takes `time`. Fails if the connection is dead, and never ends while the server hangs.
    pub(super) async fn ask(&mut self, time: Duration) -> io::Result<()> {
        if self.restarts != self.server.restarts.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.server.hangs.load(Ordering::Relaxed) {
            self.server.stuck.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        sleep(time).await;
        self.server.answers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The servers `a`, `b`, … and a pool over them on paused time.
pub(super) struct World {
    pub(super) servers: Vec<Arc<Fake>>,
    pub(super) pool: FakePool,
}

impl World {
    pub(super) fn new(
        count: usize,
        build: impl FnOnce(Builder<BoxConnector<Conn>>) -> Builder<BoxConnector<Conn>>,
    ) -> Self {
        let names: Vec<_> = ('a'..).take(count).map(String::from).collect();
        let servers: Vec<_> = names.iter().map(|_| Arc::new(Fake::default())).collect();
        let by_name: HashMap<_, _> = names.iter().cloned().zip(servers.iter().cloned()).collect();
        let connector = connect_fn(move |server: Server| {
            let fake = Arc::clone(&by_name[server.address()]);
            async move { connect(fake) }
        });
        let builder = Pool::builder(connector.boxed()).clock(Clock::tokio()).seed(1).servers(&names);
        Self { servers, pool: build(builder).build().expect("the settings are in range") }
    }

    /// Answers so far, of all servers.
    pub(super) fn answered(&self) -> usize {
        self.servers.iter().map(|server| server.answered()).sum()
    }
}

fn connect(server: Arc<Fake>) -> io::Result<Conn> {
    server.connects.lock().expect("no panic").push(Instant::now());
    let limit = server.limit.load(Ordering::Relaxed);
    let is_full = limit > 0 && server.open.load(Ordering::Relaxed) >= limit;
    if is_full || server.refuses.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    server.open.fetch_add(1, Ordering::Relaxed);
    let restarts = server.restarts.load(Ordering::Relaxed);
    Ok(Conn { server, restarts })
}

/// How a caller ends a request that takes too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It times the request and calls `fail`.
    Fails(Duration),
    /// The timeout is around everything: the future is dropped.
    Leaves(Duration),
}

/// One request with a fresh acquire. True if it was answered.
pub(super) async fn request(pool: &FakePool, time: Duration, patience: Patience) -> bool {
    let request = async {
        let Ok(mut conn) = pool.acquire().await else { return false };
        let limit = match patience {
            Patience::Fails(limit) => limit,
            Patience::Leaves(_) => Duration::MAX,
        };
        match timeout(limit, conn.ask(time)).await {
            Ok(Ok(())) => {
                conn.release();
                true
            }
            Ok(Err(error)) => {
                conn.broken(&error);
                false
            }
            Err(late) => {
                conn.fail(late);
                false
            }
        }
    };
    match patience {
        Patience::Fails(_) => request.await,
        Patience::Leaves(limit) => timeout(limit, request).await.unwrap_or(false),
    }
}

/// Sends requests at a rate for some time, each in a task of its own. Returns how many failed.
pub(super) async fn send(pool: &FakePool, rps: u64, time: Duration, each: Duration, patience: Patience) -> usize {
    let failed = Arc::new(AtomicUsize::new(0));
    let requests = (rps as f64 * time.as_secs_f64()) as u64;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..requests {
        tokio::time::sleep_until(start + Duration::from_nanos(number * 1_000_000_000 / rps)).await;
        let (pool, failed) = (pool.clone(), Arc::clone(&failed));
        tasks.spawn(async move {
            if !request(&pool, each, patience).await {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    failed.load(Ordering::Relaxed)
}
