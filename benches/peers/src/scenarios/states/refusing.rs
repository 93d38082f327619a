//! Processor time of retries: all servers of a pool refuse while one caller waits.
//!
//! `cpu` is the processor time of the whole process relative to the wall time, in five windows of two seconds, with the
//! builder's defaults. The first windows begin 10 s after the start. The others begin 120 s after it, or at the end of
//! the start-up if that is later; by then each server's backoff has grown to its maximum of 5 s, ±50 %. `connects`
//! counts the connect attempts in the same windows. `start-up` is the time until each server has refused once.
//!
//! Sources of error: the connector refuses at once without a socket, so the system calls of an attempt are missing. All
//! other pools of the process are dropped before. The figure includes the runtime's timer, which wakes at least every
//! 100 ms.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use connring::{AcquireError, Connector};
use rustix::time::{ClockId, clock_gettime};

use super::{address, builder};
use crate::contestants::{background, current_thread};
use crate::report::{Metric, Report, Row};

pub const CPU: Metric = Metric { name: "cpu", unit: "% of a core" };
pub const CONNECTS: Metric = Metric { name: "connects", unit: "a second" };
pub const START_UP: Metric = Metric { name: "start-up", unit: "s" };
const WINDOWS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(2);
/// The names of the window groups, and their beginnings.
pub const STARTS: [(&str, Duration); 2] = [("from 10 s on", Duration::from_secs(10)), LAST_START];
const LAST_START: (&str, Duration) = ("from 120 s on", Duration::from_secs(120));

/// A connector that counts connect attempts and refuses each of them.
#[derive(Clone)]
pub struct Refuses(Arc<Refused>);

struct Refused {
    began: Instant,
    connects: AtomicU64,
    /// The addresses without a connect attempt so far.
    fresh: Mutex<HashSet<String>>,
    /// The time from `began` until each address had a connect attempt.
    all: OnceLock<Duration>,
}

impl Refuses {
    pub fn new(servers: u32) -> Self {
        let fresh = Mutex::new((0..servers).map(address).collect());
        Self(Arc::new(Refused { began: Instant::now(), connects: AtomicU64::new(0), fresh, all: OnceLock::new() }))
    }

    fn connects(&self) -> u64 {
        self.0.connects.load(Ordering::Relaxed)
    }
}

impl Connector for Refuses {
    type Conn = u64;
    type Error = io::Error;

    async fn connect(&self, server: &connring::Server) -> io::Result<u64> {
        self.0.connects.fetch_add(1, Ordering::Relaxed);
        if self.0.all.get().is_none() {
            let mut fresh = self.0.fresh.lock().expect("the lock is not poisoned");
            fresh.remove(server.address());
            if fresh.is_empty() {
                self.0.all.get_or_init(|| self.0.began.elapsed());
            }
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// What a pool whose servers all refuse costs while one caller waits, in windows after the start-up.
pub struct Costs {
    pub start_up: Duration,
    pub cpu_percent: Vec<f64>,
    pub connects_a_second: Vec<f64>,
}

/// Measures [`Costs`] in so many windows, from the end of the start-up on.
pub fn after_start_up(servers: u32, windows: u32) -> Costs {
    let refuses = Refuses::new(servers);
    let pool = builder(refuses.clone(), servers).runtime(background()).build().expect("a pool");
    let waits = pool.clone();
    let waiter = background().spawn(async move { waits.acquire_timeout(Duration::MAX).await.map(drop) });
    let start_up = *refuses.0.all.wait();
    let windows: Vec<_> = (0..windows).map(|_| window(WINDOW, || refuses.connects())).collect();
    assert_eq!(pool.status().waiters, 1, "the caller still waits");
    waiter.abort();
    let cpu_percent = windows.iter().map(Window::cpu_percent).collect();
    Costs { start_up, cpu_percent, connects_a_second: windows.iter().map(Window::a_second).collect() }
}

/// Measures a pool whose servers all refuse while one caller waits.
pub fn measure(report: &mut Report, servers: u32) {
    let refuses = Refuses::new(servers);
    let pool = builder(refuses.clone(), servers).runtime(background()).build().expect("a pool");
    let waits = pool.clone();
    let waiter = background().spawn(async move { waits.acquire_timeout(Duration::MAX).await.map(drop) });
    let push = |report: &mut Report, name: &str, metric, values| {
        let setting = vec![("servers", servers.into())];
        report.push(Row { contestant: name.to_owned(), setting, metric, against: "", values });
    };
    for (name, start) in STARTS {
        eprintln!("states: refusing servers, {name}");
        thread::sleep(start.saturating_sub(refuses.0.began.elapsed()));
        if (name, start) == LAST_START {
            push(report, "connring", START_UP, vec![refuses.0.all.wait().as_secs_f64()]);
        }
        let windows: Vec<_> = (0..WINDOWS).map(|_| window(WINDOW, || refuses.connects())).collect();
        push(report, name, CPU, windows.iter().map(Window::cpu_percent).collect());
        push(report, name, CONNECTS, windows.iter().map(Window::a_second).collect());
    }
    assert_eq!(pool.status().waiters, 1, "the caller still waits");
    let runtime = current_thread();
    runtime.block_on(pool.close());
    let ended = runtime.block_on(waiter).expect("the task does not panic");
    assert!(matches!(ended, Err(AcquireError::Closed)), "the caller waited until the pool was closed");
}

/// The wall time, processor time and connect attempts of a window.
struct Window {
    wall: Duration,
    cpu: Duration,
    connects: u64,
}

impl Window {
    fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    fn a_second(&self) -> f64 {
        self.connects as f64 / self.wall.as_secs_f64()
    }
}

fn window(length: Duration, connects: impl Fn() -> u64) -> Window {
    let (began, used, before) = (Instant::now(), process_time(), connects());
    thread::sleep(length);
    Window { wall: began.elapsed(), cpu: process_time() - used, connects: connects() - before }
}

/// Returns the processor time that all threads have used.
fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::{Refuses, Window, background, builder};

    #[test]
    fn window_figures_are_relative_to_its_length() {
        let window = Window { wall: Duration::from_secs(2), cpu: Duration::from_millis(50), connects: 600 };
        assert_eq!((window.cpu_percent(), window.a_second()), (2.5, 300.0));
    }

    #[test]
    fn connects_to_refusing_servers_while_one_caller_waits() {
        let refuses = Refuses::new(20);
        let pool = builder(refuses.clone(), 20).runtime(background()).build().expect("a pool");
        let waits = background().spawn(async move { pool.acquire_timeout(Duration::MAX).await.map(drop) });
        // Each server gets one attempt, and another after its backoff.
        while refuses.connects() < 40 || refuses.0.all.get().is_none() {
            assert!(!waits.is_finished(), "the caller still waits");
            thread::yield_now();
        }
        waits.abort();
    }
}
