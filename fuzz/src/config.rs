//! Settings of any value: `build()` refuses those outside their documented ranges, by name, and takes all others; and
//! what it takes works.
//!
//! The reference is the builder's table of ranges, written down once more.

use std::collections::HashSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use connring::test_util::ScriptedConnector;
use connring::{AcquireError, BuildError, Clock, Pool, PooledConn, Server, ServerError, ServerState, TryAcquireError};
use tokio::task::coop::unconstrained;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// The most idle connections that a server may keep, by the documentation.
const MAX_IDLE: u32 = 1 << 20;
const MAX_SERVERS: usize = 6;

type Conn = PooledConn<ScriptedConnector>;

/// Each knob is left alone, or set.
#[derive(Debug, Arbitrary)]
struct Case {
    max_conns: Option<Count>,
    max_idle: Option<Count>,
    max_rps: Option<Number>,
    burst: Option<Count>,
    max_dials: Option<Count>,
    connect_timeout: Option<Time>,
    hedge_delay: Option<Time>,
    backoff: Option<(Time, Time)>,
    multiplier: Option<Number>,
    spread: Option<Number>,
    fail_threshold: Option<Count>,
    wait_timeout: Option<Option<Time>>,
    max_waiters: Option<usize>,
    idle_timeout: Option<Option<Time>>,
    max_lifetime: Option<Option<Time>>,
    jitter: Option<Number>,
    upkeep: Option<bool>,
    servers: Vec<ServerCase>,
}

#[derive(Debug, Arbitrary)]
struct ServerCase {
    address: Address,
    max_conns: Option<Count>,
    max_rps: Option<Number>,
    burst: Option<Count>,
}

#[derive(Debug, Arbitrary)]
enum Address {
    Plain(u8),
    Any(String),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Count {
    Small(u8),
    Medium(u16),
    Any(u32),
    /// At an end of a range, or just beyond.
    Edge(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Number {
    Unit(u8),
    Decimal(u8, u8),
    Any(f64),
    /// At an end of a range, or just beyond.
    Edge(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Time {
    Nanos(u16),
    Micros(u16),
    Millis(u16),
    Hours(u16),
    Any(Duration),
    Edge(u8),
}

impl Count {
    fn get(self) -> u32 {
        match self {
            Self::Small(count) => count.into(),
            Self::Medium(count) => count.into(),
            Self::Any(count) => count,
            Self::Edge(which) => {
                let edges = [0, 1, 255, 256, MAX_IDLE, MAX_IDLE + 1, u32::MAX];
                edges[usize::from(which) % edges.len()]
            }
        }
    }
}

impl Number {
    fn get(self) -> f64 {
        match self {
            Self::Unit(part) => f64::from(part) / 128.0,
            Self::Decimal(digits, exponent) => f64::from(digits) * 10f64.powi(i32::from(exponent % 20) - 9),
            Self::Any(number) => number,
            Self::Edge(which) => {
                let edges = [0.0, -0.0, 1.0, 100.0, 1e-6, 1e9, f64::NAN, f64::INFINITY];
                let edge = edges[usize::from(which / 3) % edges.len()];
                [edge.next_down(), edge, edge.next_up()][usize::from(which % 3)]
            }
        }
    }
}

impl Time {
    fn get(self) -> Duration {
        match self {
            Self::Nanos(time) => Duration::from_nanos(time.into()),
            Self::Micros(time) => Duration::from_micros(time.into()),
            Self::Millis(time) => Duration::from_millis(time.into()),
            Self::Hours(time) => Duration::from_secs(3_600 * u64::from(time)),
            Self::Any(time) => time,
            Self::Edge(which) => {
                let (nano, milli) = (Duration::from_nanos(1), Duration::from_millis(1));
                let edges = [Duration::ZERO, nano, milli - nano, milli, YEAR, YEAR + nano, Duration::MAX];
                edges[usize::from(which) % edges.len()]
            }
        }
    }
}

impl Address {
    fn get(&self) -> String {
        match self {
            Self::Plain(number) => format!("10.0.0.{}:6379", number % 8),
            Self::Any(text) => text.clone(),
        }
    }
}

/// The limits of a server, or the pool's, against the table.
struct Rate {
    rps: Option<f64>,
    burst: Option<u32>,
}

impl Rate {
    fn is_rps_valid(&self) -> bool {
        self.rps.is_none_or(|rps| (1e-6..=1e9).contains(&rps))
    }

    fn is_burst_valid(&self) -> bool {
        // 2⁵⁹ ns are 18 years.
        let most = self.rps.map_or(f64::INFINITY, |rps| rps * ((1_u64 << 59) as f64 / 1e9));
        self.burst.is_none_or(|burst| burst >= 1 && f64::from(burst) <= most)
    }

    /// How many hand-outs are there at once.
    fn burst(&self) -> u32 {
        match (self.rps, self.burst) {
            (None, _) => u32::MAX,
            (Some(_), Some(burst)) => burst,
            (Some(rps), None) => 1 + (rps / 100.0).ceil() as u32,
        }
    }
}

fn is_time(time: Duration) -> bool {
    !time.is_zero() && time <= YEAR
}

impl Case {
    fn rate(&self) -> Rate {
        Rate { rps: self.max_rps.map(Number::get), burst: self.burst.map(Count::get) }
    }

    fn rate_of(&self, server: &ServerCase) -> Rate {
        let Rate { rps, burst } = self.rate();
        Rate { rps: server.max_rps.map(Number::get).or(rps), burst: server.burst.map(Count::get).or(burst) }
    }

    /// Which knobs of the pool are outside their ranges.
    fn faults(&self) -> HashSet<&'static str> {
        let count = |wish: Option<Count>, most: u32| wish.is_none_or(|wish| (1..=most).contains(&wish.get()));
        let ratio = |wish: Option<Number>| wish.is_none_or(|wish| (0.0..=1.0).contains(&wish.get()));
        let time = |wish: Option<Time>| wish.is_none_or(|wish| is_time(wish.get()));
        let bound = |wish: Option<Option<Time>>| time(wish.flatten());
        let (initial, max) = self
            .backoff
            .map_or((Duration::from_millis(100), Duration::from_secs(30)), |(initial, max)| (initial.get(), max.get()));
        let knobs = [
            ("max_conns_per_server", count(self.max_conns, u32::MAX)),
            ("max_idle_per_server", count(self.max_idle, MAX_IDLE)),
            ("max_rps", self.rate().is_rps_valid()),
            ("burst", self.rate().is_burst_valid()),
            ("max_concurrent_connects_per_server", count(self.max_dials, u32::MAX)),
            ("connect_timeout", time(self.connect_timeout)),
            ("hedge_delay", time(self.hedge_delay)),
            ("backoff initial", initial >= Duration::from_millis(1) && initial <= YEAR),
            ("backoff max", max >= initial && max <= YEAR),
            ("backoff_multiplier", self.multiplier.is_none_or(|by| (1.0..=100.0).contains(&by.get()))),
            ("backoff_spread_ratio", ratio(self.spread)),
            ("fail_threshold", count(self.fail_threshold, 255)),
            ("wait_timeout", bound(self.wait_timeout)),
            ("max_waiters", self.max_waiters.is_none_or(|callers| callers >= 1)),
            ("idle_timeout", bound(self.idle_timeout)),
            ("max_lifetime", bound(self.max_lifetime)),
            ("max_lifetime_jitter_ratio", ratio(self.jitter)),
        ];
        knobs.into_iter().filter(|(_, holds)| !holds).map(|(name, _)| name).collect()
    }

    /// Which settings of a server are outside their ranges.
    fn server_faults(&self, server: &ServerCase) -> HashSet<&'static str> {
        let rate = self.rate_of(server);
        let knobs = [
            ("max_conns", server.max_conns.is_none_or(|conns| conns.get() >= 1)),
            ("max_rps", rate.is_rps_valid()),
            ("burst", rate.is_burst_valid()),
        ];
        knobs.into_iter().filter(|(_, holds)| !holds).map(|(name, _)| name).collect()
    }

    fn build(&self, clock: &Clock, connector: &ScriptedConnector) -> Result<Pool<ScriptedConnector>, BuildError> {
        let mut builder = Pool::builder(connector.clone()).clock(clock.clone());
        macro_rules! set {
            ($($setter:ident: $wish:expr),+ $(,)?) => {
                $( if let Some(wish) = $wish { builder = builder.$setter(wish); } )+
            };
        }
        set! {
            max_conns_per_server: self.max_conns.map(Count::get),
            max_idle_per_server: self.max_idle.map(Count::get),
            max_rps: self.max_rps.map(Number::get),
            burst: self.burst.map(Count::get),
            max_concurrent_connects_per_server: self.max_dials.map(Count::get),
            connect_timeout: self.connect_timeout.map(Time::get),
            hedge_delay: self.hedge_delay.map(Time::get),
            backoff_multiplier: self.multiplier.map(Number::get),
            backoff_spread_ratio: self.spread.map(Number::get),
            fail_threshold: self.fail_threshold.map(Count::get),
            wait_timeout: self.wait_timeout.map(|wish| wish.map(Time::get)),
            max_waiters: self.max_waiters,
            idle_timeout: self.idle_timeout.map(|wish| wish.map(Time::get)),
            max_lifetime: self.max_lifetime.map(|wish| wish.map(Time::get)),
            max_lifetime_jitter_ratio: self.jitter.map(Number::get),
            maintenance: self.upkeep,
        }
        if let Some((initial, max)) = self.backoff {
            builder = builder.backoff(initial.get(), max.get());
        }
        builder.servers(self.servers.iter().map(ServerCase::server)).build()
    }
}

impl ServerCase {
    fn server(&self) -> Server {
        let mut server = Server::new(self.address.get());
        if let Some(conns) = self.max_conns {
            server = server.max_conns(conns.get());
        }
        if let Some(rps) = self.max_rps {
            server = server.max_rps(rps.get());
        }
        if let Some(burst) = self.burst {
            server = server.burst(burst.get());
        }
        server
    }
}

pub fn run(data: &[u8]) {
    let Ok(mut case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    case.servers.truncate(MAX_SERVERS);
    if case.max_idle.is_some_and(|idle| idle.get() > 1 << 12) {
        // Room for a million takes time to make: once is enough.
        case.servers.truncate(1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(unconstrained(check(&case)));
}

async fn check(case: &Case) {
    let clock = Clock::manual();
    let connector = ScriptedConnector::new(clock.clone());
    let built = case.build(&clock, &connector);
    let faults = case.faults();
    let mut addresses = HashSet::new();
    let mut are_servers_valid = true;
    for server in &case.servers {
        let address = server.address.get();
        let is_valid = !address.is_empty() && case.server_faults(server).is_empty();
        are_servers_valid &= addresses.insert(address) && is_valid;
    }
    match built {
        Ok(pool) => {
            assert!(faults.is_empty(), "built in spite of {faults:?}");
            assert!(are_servers_valid, "built in spite of a server");
            check_works(case, &clock, &pool).await;
        }
        Err(error) => check_names_a_fault(case, &faults, are_servers_valid, &error),
    }
    assert_eq!(connector.total_counts().open, 0, "nothing is left");
}

/// An error names a setting that is out of its range, with its value.
fn check_names_a_fault(case: &Case, faults: &HashSet<&str>, are_servers_valid: bool, error: &BuildError) {
    let text = error.to_string();
    match error {
        BuildError::OutOfRange { setting, value, range } => {
            assert!(faults.contains(setting), "{text}: but {faults:?}");
            assert!(text.contains(setting) && text.contains(value) && text.contains(range), "{text}");
            assert!(!value.is_empty() && !range.is_empty(), "{text}");
        }
        BuildError::Server(error) => {
            assert!(faults.is_empty() && !are_servers_valid, "{text}");
            let addresses: Vec<_> = case.servers.iter().map(|server| server.address.get()).collect();
            match error {
                ServerError::EmptyAddress => assert!(addresses.iter().any(String::is_empty), "{text}"),
                ServerError::Duplicate { address } => {
                    let times = addresses.iter().filter(|other| **other == **address).count();
                    assert!(times > 1 && text.contains(&format!("{address:?}")), "{text}");
                }
                ServerError::OutOfRange { address, setting, value, .. } => {
                    let mut same = case.servers.iter().filter(|server| server.address.get() == **address);
                    assert!(same.any(|server| case.server_faults(server).contains(setting)), "{text}");
                    assert!(text.contains(setting) && text.contains(value), "{text}");
                }
                other => panic!("{other}"),
            }
        }
        other => panic!("{other}"),
    }
}

/// With a connector that connects at once, each caller is served without the clock's having to move.
async fn check_works(case: &Case, clock: &Clock, pool: &Pool<ScriptedConnector>) {
    check_status(case, pool, 0);
    if case.servers.is_empty() {
        assert!(matches!(pool.acquire().await, Err(AcquireError::NoServers)));
        assert!(matches!(pool.acquire_now().await, Err(AcquireError::NoServers)));
        assert!(matches!(pool.try_acquire(), Err(TryAcquireError::NoServers)));
        return;
    }
    let conn = acquired(pool).await;
    assert_eq!(PooledConn::info(&conn).server().address(), conn.address());
    check_status(case, pool, 1);
    conn.release();
    check_status(case, pool, 0);
    // Again, from the queue or by a dial; if the first took the last token, when the next is there.
    let is_limited = case.servers.iter().all(|server| case.rate_of(server).burst() == 1);
    if !is_limited {
        acquired(pool).await.fail("it is broken");
    }
    clock.advance(YEAR);
    settle().await;
    check_status(case, pool, 0);
    if let Err(error) = pool.try_acquire() {
        assert!(matches!(error, TryAcquireError::Unavailable(_)), "{error}");
    }
    settle().await;
    pool.close().await;
    settle().await;
    assert!(pool.status().closed);
    assert!(matches!(pool.try_acquire(), Err(TryAcquireError::Closed)));
}

async fn acquired(pool: &Pool<ScriptedConnector>) -> Conn {
    let mut acquire = pin!(pool.acquire());
    for _ in 0..64 {
        match acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(acquired) => return acquired.expect("a server accepts"),
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
    panic!("nobody serves: {:?}", pool.status());
}

async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

fn check_status(case: &Case, pool: &Pool<ScriptedConnector>, held: u32) {
    let status = pool.status();
    assert_eq!((status.servers.len(), status.waiters, status.closed), (case.servers.len(), 0, false));
    for (server, asked) in status.servers.iter().zip(&case.servers) {
        assert_eq!(*server.address, asked.address.get());
        let max_conns = asked.max_conns.or(case.max_conns).map_or(10, Count::get);
        assert_eq!(server.max_conns, max_conns);
        assert_eq!(server.max_rps, case.rate_of(asked).rps);
        assert!(server.open <= max_conns, "{server:?}");
        assert_eq!(server.in_use + server.idle as u32 + server.connecting, server.open, "{server:?}");
        assert_ne!(server.state, ServerState::Draining);
    }
    assert_eq!(status.servers.iter().map(|server| server.in_use).sum::<u32>(), held);
}
