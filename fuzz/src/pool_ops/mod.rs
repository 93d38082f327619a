//! Drives a whole pool on a manual clock, with a scripted connector and callers whose futures the test polls itself.
//!
//! Each step is checked against the counts of the connector and a model of the wait queue:
//!
//! - connections never exceed the maximum, and the pool's count of them equals the connector's;
//! - no window has more checkouts than the rate allows;
//! - waiters are served in the order of joining, and every served waiter is woken;
//! - a server that is down or ejected gets no connect attempt before its time, and then one at a time;
//! - reports eject a server exactly as a model of it says, and never too many of them (`reports.rs`);
//! - a server is known by its name, and no connection outlives a reset, a removal or a change of its address;
//! - after all tasks have run, no waiter is left that some server could serve;
//! - errors are accurate, and the status is consistent;
//! - at the end no connection, no attempt and no reference to the pool is left.

mod caller;
mod check;
mod ending;
mod membership;
mod model;
mod reports;
mod rig;

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use connring::test_util::{Connect, Reuse, RoundTrip, ScriptedConnector};
use tokio::task::coop::unconstrained;

use self::caller::Kind;
use self::model::addresses;
use self::reports::Verdict;
use self::rig::Rig;

/// The names of the servers. The address of one that moved is another one.
const NAMES: [&str; 3] = ["a", "b", "c"];
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
    failures: u8,
    max_waiters: u8,
    max_idle: u8,
    waits_for_ever: bool,
    maintenance: bool,
    expires: bool,
    /// The initially registered servers, as a bit mask.
    servers: u8,
    rules: Rules,
}

/// Rules of health.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Rules {
    /// The most servers that may be ejected.
    cap: u8,
    enforce: bool,
    abandons: bool,
    retries_ahead: bool,
    fails_fast: bool,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Limits {
    max_conns: u8,
    rate: Rate,
    /// The server is at another address than its name.
    has_moved: bool,
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
    ReportSuccess(u8),
    ReportFailure(u8),
    /// For so many tenths of a second.
    FailFor(u8, u8),
    Broken(u8),
    /// Drops the handle.
    Abandon(u8),
    /// The checks of probes fail, or succeed again.
    SetCheck(u8, bool),
    Update(u8, Limits),
    ResetServer(u8),
    Reset,
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
            Op::Release(which) => self.end(which, Verdict::Success, |conn| conn.release()),
            Op::Close(which) => self.end(which, Verdict::None, |conn| conn.discard()),
            Op::Fail(which) => self.end(which, Verdict::Failure { eject_for: None }, |conn| conn.fail("broken")),
            Op::FailFor(which, tenths) => {
                let time = Duration::from_millis(100 * u64::from(tenths));
                self.end(which, Verdict::Failure { eject_for: Some(time) }, |conn| conn.fail_for("busy", time));
            }
            Op::Broken(which) => self.end(which, Verdict::None, |conn| conn.broken("dead")),
            Op::Abandon(which) => self.end(which, Verdict::Abandoned, drop),
            Op::Detach(which) => {
                let mut detached = None;
                self.end(which, Verdict::None, |conn| detached = Some(conn.detach()));
                self.detached.extend(detached);
            }
            Op::ReportSuccess(which) => self.report(which, Verdict::Success, |conn| conn.report_success()),
            Op::ReportFailure(which) => {
                self.report(which, Verdict::Failure { eject_for: None }, |conn| conn.report_failure("slow"));
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
            Op::Register(which, limits) => self.register(name(which), limits),
            Op::Deregister(which) => self.deregister(name(which)),
            Op::Update(which, limits) => self.update(name(which), limits),
            Op::ResetServer(which) => self.reset_server(name(which)),
            Op::Reset => self.reset(),
            Op::SetServers(mask, limits) => self.set_servers(mask, limits),
            Op::Script(which, end) => self.at(which, |connector, at| connector.on_connect(at, end.connect())),
            Op::ScriptNext(which, end) => self.at(which, |connector, at| connector.next_connects(at, [end.connect()])),
            Op::Kill(which) => self.at(which, |connector, at| connector.kill_connections(at)),
            Op::SetReuse(which, yes) => {
                let reuse = if yes { Reuse::Yes } else { Reuse::No };
                self.at(which, |connector, at| connector.set_reuse(at, reuse));
            }
            Op::SetCheck(which, yes) => {
                let check = if yes { RoundTrip::Ok } else { RoundTrip::Fail };
                self.at(which, |connector, at| connector.set_check(at, check));
            }
            Op::ClosePool => self.close_pool(),
        }
    }

    /// Changes the script of a server's addresses.
    fn at(&self, which: u8, change: impl Fn(&ScriptedConnector, &str)) {
        addresses(name(which)).iter().for_each(|address| change(&self.connector, address));
    }
}

fn pick(which: u8, count: usize) -> Option<usize> {
    (count > 0).then(|| usize::from(which) % count)
}

fn name(which: u8) -> &'static str {
    NAMES[usize::from(which) % NAMES.len()]
}

fn names(mask: u8) -> Vec<&'static str> {
    NAMES.into_iter().enumerate().filter(|(index, _)| (mask >> index) & 1 == 1).map(|(_, name)| name).collect()
}
