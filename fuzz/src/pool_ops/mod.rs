//! Drives a whole pool on a manual clock, with a scripted connector and callers whose futures the test polls itself.
//!
//! Each step is checked against the counts of the connector and a model of the wait queue:
//!
//! - connections never exceed the maximum, and the pool's count of them equals the connector's;
//! - no window has more checkouts than the rate allows;
//! - waiters are served in the order of joining, and every served waiter is woken;
//! - a down server gets no connect attempt before its retry time, and then one at a time;
//! - after all tasks have run, no waiter is left that some server could serve;
//! - errors are accurate, and the status is consistent;
//! - at the end no connection, no attempt and no reference to the pool is left.

mod caller;
mod check;
mod ending;
mod rig;

use std::task::Poll;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use connring::ServerError;
use connring::test_util::{Connect, Reuse};
use tokio::task::coop::unconstrained;

use self::caller::Kind;
use self::rig::Rig;

const ADDRESSES: [&str; 3] = ["a", "b", "c"];
const MAX_OPS: usize = 300;
const MAX_CALLERS: usize = 8;

#[derive(Debug, Arbitrary)]
struct Case {
    knobs: Knobs,
    ops: Vec<Op>,
    ending: Ending,
}

#[derive(Debug, Arbitrary)]
struct Knobs {
    limits: Limits,
    max_attempts: u8,
    fail_threshold: u8,
    max_waiters: u8,
    max_idle: u8,
    waits_for_ever: bool,
    maintenance: bool,
    expires: bool,
    /// The initially registered addresses, as a bit mask.
    servers: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Limits {
    max_conns: u8,
    rate: Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Rate {
    None,
    Slow { burst: bool },
    Fast { burst: bool },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum End {
    Ok,
    Refuse,
    LocalFault,
    Slow(u8),
    SlowRefuse(u8),
    Never,
    Panic,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Unit {
    Nano,
    Milli,
    Tenth,
    Second,
    Minute,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Op {
    Acquire,
    AcquireTimeout(u8),
    AcquireNow,
    TryAcquire,
    Poll(u8),
    PollWoken,
    Cancel(u8),
    Release(u8),
    Close(u8),
    Fail(u8),
    Detach(u8),
    DropDetached,
    Advance(Unit, u8),
    /// Yields this many times to the pool's tasks.
    Yield(u8),
    /// Yields until all tasks of the pool wait.
    Settle,
    /// Runs tasks and polls woken callers until all of them wait.
    Serve,
    Register(u8, Limits),
    Deregister(u8),
    SetServers(u8, Limits),
    Script(u8, End),
    ScriptNext(u8, End),
    Kill(u8),
    SetReuse(u8, bool),
    ClosePool,
}

/// The first step of the teardown.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Ending {
    /// The pool is closed while connections are checked out.
    Closed,
    /// All handles are dropped while connections are checked out.
    Dropped,
    /// The runtime is dropped before the pool.
    RuntimeGone,
}

impl Rate {
    /// Returns the tokens a second, and the burst.
    fn numbers(self) -> Option<(u32, u32)> {
        match self {
            Self::None => None,
            Self::Slow { burst } => Some((1, 1 + u32::from(burst))),
            Self::Fast { burst } => Some((10, 1 + 2 * u32::from(burst))),
        }
    }
}

impl Limits {
    fn max_conns(self) -> u32 {
        1 + u32::from(self.max_conns % 3)
    }
}

impl End {
    fn connect(self) -> Connect {
        let time = |tenths: u8| Duration::from_millis(50 + 100 * u64::from(tenths % 20));
        match self {
            Self::Ok => Connect::Ok,
            Self::Refuse => Connect::Refuse,
            Self::LocalFault => Connect::LocalFault,
            Self::Slow(tenths) => Connect::Slow(time(tenths)),
            Self::SlowRefuse(tenths) => Connect::SlowRefuse(time(tenths)),
            Self::Never => Connect::Never,
            Self::Panic => Connect::Panic,
        }
    }
}

impl Unit {
    fn times(self, count: u8) -> Duration {
        let unit = match self {
            Self::Nano => Duration::from_nanos(1),
            Self::Milli => Duration::from_millis(1),
            Self::Tenth => Duration::from_millis(100),
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_secs(60),
        };
        unit * u32::from(count)
    }
}

pub fn run(data: &[u8]) {
    // Makes the rotation begin at the same server on every thread.
    connring::test_util::set_shard(0);
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    ending::silence_scripted_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let rig = runtime.block_on(unconstrained(async {
        let mut rig = Rig::new(&case.knobs);
        rig.check();
        for op in case.ops.into_iter().take(MAX_OPS) {
            rig.begin_step();
            rig.step(op).await;
            rig.check();
        }
        rig
    }));
    rig.check_all_windows();
    match case.ending {
        Ending::Closed => runtime.block_on(unconstrained(rig.end_closed())),
        Ending::Dropped => runtime.block_on(unconstrained(rig.end_dropped())),
        Ending::RuntimeGone => {
            drop(runtime);
            rig.end_without_runtime();
        }
    }
    ending::check_no_panic();
}

impl Rig {
    async fn step(&mut self, op: Op) {
        match op {
            Op::Acquire => self.call(Kind::Acquire, self.wait_timeout),
            Op::AcquireTimeout(tenths) => {
                self.call(Kind::Acquire, Some(Duration::from_millis(100 * u64::from(tenths))));
            }
            Op::AcquireNow => self.call(Kind::AcquireNow, None),
            Op::TryAcquire => self.try_acquire(),
            Op::Poll(which) => {
                if let Some(index) = pick(which, self.callers.len()) {
                    self.poll(index);
                }
            }
            Op::PollWoken => {
                self.poll_woken();
            }
            Op::Cancel(which) => {
                if let Some(index) = pick(which, self.callers.len()) {
                    drop(self.callers.remove(index));
                }
            }
            Op::Release(which) => self.held(which).into_iter().for_each(|conn| conn.release()),
            Op::Close(which) => self.held(which).into_iter().for_each(|conn| conn.discard()),
            Op::Fail(which) => self.held(which).into_iter().for_each(|conn| conn.fail("broken")),
            Op::Detach(which) => {
                let conn = self.held(which).map(|conn| conn.detach());
                self.detached.extend(conn);
            }
            Op::DropDetached => self.detached.clear(),
            Op::Advance(unit, count) => self.clock.advance(unit.times(count)),
            Op::Yield(times) => rig::yield_now(times % 8).await,
            Op::Settle => self.settle().await,
            Op::Serve => {
                self.settle().await;
                while self.poll_woken() {
                    self.settle().await;
                }
            }
            Op::Register(which, limits) => self.register(address(which), limits),
            Op::Deregister(which) => self.deregister(address(which)),
            Op::SetServers(mask, limits) => self.set_servers(mask, limits),
            Op::Script(which, end) => {
                self.note_script(address(which), end);
                self.connector.on_connect(address(which), end.connect());
            }
            Op::ScriptNext(which, end) => {
                self.note_script(address(which), end);
                self.connector.next_connects(address(which), [end.connect()]);
            }
            Op::Kill(which) => self.connector.kill_connections(address(which)),
            Op::SetReuse(which, yes) => {
                self.connector.set_reuse(address(which), if yes { Reuse::Yes } else { Reuse::No });
            }
            Op::ClosePool => self.close_pool(),
        }
    }

    fn note_script(&mut self, address: &str, end: End) {
        if matches!(end, End::LocalFault) {
            self.model(address).may_pause = true;
        }
    }

    fn register(&mut self, address: &'static str, limits: Limits) {
        let result = self.pool.register(rig::server(address, limits));
        if self.closed {
            return assert_eq!(result, Err(ServerError::Closed));
        }
        if self.listed.contains(&address) {
            return assert_eq!(result, Err(ServerError::Duplicate { address: address.into() }));
        }
        assert_eq!(result, Ok(()));
        self.listed.push(address);
        self.apply(address, limits, true);
    }

    fn deregister(&mut self, address: &'static str) {
        let result = self.pool.deregister(address);
        if self.closed {
            return assert_eq!(result, Err(ServerError::Closed));
        }
        let Some(index) = self.listed.iter().position(|listed| *listed == address) else {
            return assert_eq!(result, Err(ServerError::Unknown { address: address.into() }));
        };
        assert_eq!(result, Ok(()));
        self.listed.remove(index);
        self.model(address).max_conns = 0;
    }

    fn set_servers(&mut self, mask: u8, limits: Limits) {
        let wanted = addresses(mask);
        if mask & 0x80 != 0 {
            // A list with a duplicate is refused as a whole.
            if let (Some(first), false) = (wanted.first(), self.closed) {
                let twice = wanted.iter().chain([first]).map(|address| rig::server(address, limits));
                let address = (*first).into();
                return assert_eq!(self.pool.set_servers(twice), Err(ServerError::Duplicate { address }));
            }
        }
        let result = self.pool.set_servers(wanted.iter().map(|address| rig::server(address, limits)));
        if self.closed {
            return assert_eq!(result, Err(ServerError::Closed));
        }
        assert_eq!(result, Ok(()));
        let before = std::mem::replace(&mut self.listed, wanted);
        for address in ADDRESSES {
            if self.listed.contains(&address) {
                self.apply(address, limits, !before.contains(&address));
            } else {
                self.model(address).max_conns = 0;
            }
        }
    }

    fn close_pool(&mut self) {
        let close = self.pool.clone();
        let mut close = Box::pin(async move { close.close().await });
        let is_closed = rig::poll_once(close.as_mut());
        self.closed = true;
        self.listed.clear();
        for address in ADDRESSES {
            self.model(address).max_conns = 0;
        }
        let out: u32 = self.pool.status().servers.iter().map(|server| server.open).sum();
        assert_eq!(is_closed == Poll::Ready(()), out == 0, "`close` waits exactly for open connections");
    }
}

fn pick(which: u8, count: usize) -> Option<usize> {
    (count > 0).then(|| usize::from(which) % count)
}

fn address(which: u8) -> &'static str {
    ADDRESSES[usize::from(which) % ADDRESSES.len()]
}

fn addresses(mask: u8) -> Vec<&'static str> {
    ADDRESSES
        .into_iter()
        .enumerate()
        .filter(|(index, _)| (mask >> index) & 1 == 1)
        .map(|(_, address)| address)
        .collect()
}
