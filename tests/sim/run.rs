//! One run: a phase of trouble, a phase of calm, and the end, after which nothing may be left over.

use std::cell::Cell;
use std::panic;
use std::sync::{Arc, Once};
use std::time::Duration;

use connring::{Clock, CloseReason, Ejection, Pool, PoolStatus, ServerState};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::caller::Caller;
use crate::features::{Feature, Features};
use crate::monitor::monitor;
use crate::net::SimConnector;
use crate::observer::Watcher;
use crate::orders::enable_all;
use crate::plan::{Plan, stream};
use crate::recovery::heals;
use crate::rng::Rng;
use crate::weather::{Operator, blow, clear_up, removing};
use crate::world::{Counts, Event, MS, World};

/// The result of a seed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) features: Features,
    pub(crate) violation: Option<String>,
    /// The events, with their times in nanoseconds.
    pub(crate) trace: Vec<(u64, Event)>,
}

impl Report {
    /// The features that show in the trace.
    pub(crate) fn shown(&self) -> Features {
        let shown = self.trace.iter().map(|(_, event)| Features::shown_by(event));
        shown.fold(Features::default(), Features::union)
    }
}

thread_local! {
    /// The panics of this thread, including those that a task's handle swallows.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Report {
    // The rotation begins at this shard on every thread.
    connring::test_util::set_shard(0);
    count_panics();
    PANICS.with(|panics| panics.set(0));
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets can be built");
    let world = runtime.block_on(async {
        let world = Arc::new(World::new(Plan::new(seed)));
        if let Err(what) = simulate(&world).await {
            world.violated(what);
        }
        world
    });
    drop(runtime);
    world.set_pool(None);
    if PANICS.with(Cell::get) > 0 {
        world.violated("a thread or task panicked".into());
    }
    let mut state = world.state();
    let mut trace = std::mem::take(&mut state.trace);
    if let Some(at) = trace.iter().position(|(_, event)| *event == Event::Violation) {
        trace.truncate(at);
    }
    let mut report = Report { seed, features: world.plan.features, violation: state.violation.take(), trace };
    let off = report.shown().beyond(report.features);
    if report.violation.is_none() && !off.is_empty() {
        report.violation = Some(format!("features that are off have shown: {off:?}"));
    }
    report
}

fn build(world: &Arc<World>) -> Pool<SimConnector> {
    let plan = &world.plan;
    let ms = Duration::from_millis;
    let servers: Vec<_> = {
        let state = world.state();
        let described = plan.first_servers.iter().zip(&state.servers);
        described.map(|(limits, server)| limits.server(&server.address)).collect()
    };
    let ejection = Ejection::new()
        .consecutive_failures(plan.consecutive_failures)
        .max_ejected_ratio(plan.max_ejected_ratio)
        .base(ms(plan.ejection_base))
        .max(ms(plan.ejection_max))
        .enforce(plan.enforce);
    // No spread of pauses and lifetimes, so that the model knows them.
    let builder = Pool::builder(SimConnector { world: Arc::clone(world) })
        .backoff_spread_ratio(0.0)
        .max_lifetime_jitter_ratio(0.0)
        .clock(Clock::clone(&world.clock))
        .servers(servers)
        .connect_timeout(ms(plan.connect_timeout))
        .hedge_delay(ms(plan.hedge_delay))
        .backoff(ms(plan.backoff_initial), ms(plan.backoff_max))
        .ejection(ejection)
        .abandoned_after(plan.abandoned_after.map(ms))
        .outage_retry(plan.outage_retry.map(ms))
        .fail_fast_when_down(plan.fail_fast)
        .max_concurrent_connects_per_server(plan.max_attempts)
        .max_waiters(plan.max_waiters)
        .wait_timeout(plan.wait_timeout.map(ms))
        .idle_timeout(plan.idle_timeout.map(ms))
        .max_lifetime(plan.max_lifetime.map(ms))
        .maintenance(plan.maintenance)
        .min_idle_per_server(plan.min_idle)
        .idle_check_interval(plan.idle_check_interval.map(ms))
        .load_balancing(plan.policy)
        .slow_start(plan.slow_start.map(ms))
        .spill_when_full(plan.spill_when_full)
        .goodbye_timeout(ms(plan.goodbye_timeout))
        .observer(Watcher { world: Arc::clone(world) })
        .seed(plan.seed);
    builder.build().expect("the plan is in range")
}

/// The run. Ends early at the first violation.
async fn simulate(world: &Arc<World>) -> Result<(), String> {
    let pool = build(world);
    world.set_pool(Some(pool.clone()));
    let plan = &world.plan;
    let callers: Vec<_> =
        (0..plan.callers).map(|number| tokio::spawn(Caller::new(world, &pool, number).run())).collect();
    let weather = tokio::spawn(blow(Arc::clone(world)));
    let rng = Rng::new(plan.seed, stream::OPERATOR);
    let operator =
        tokio::spawn(Operator { world: Arc::clone(world), pool: pool.clone(), rng, drains: Vec::new() }.run());
    let monitor_task = tokio::spawn(monitor(Arc::clone(world), pool.clone()));

    let half = Duration::from_millis(plan.trouble / 2);
    sleep(half).await;
    let closing = plan.has(Feature::ClosesEarly).then(|| tokio::spawn(close(Arc::clone(world), pool.clone())));
    sleep(half).await;
    clear_up(world);
    enable_all(world, &pool);
    ends("a caller", callers, plan.patience()).await?;
    let others = [weather, operator].into_iter().chain(closing);
    ends("weather or operator", others.collect(), Duration::from_millis(200)).await?;
    if !world.state().is_closed && !world.is_over() {
        heals(world, &pool).await?;
    }
    // Attempts that no caller waits for.
    sleep(Duration::from_millis(plan.connect_timeout + 2)).await;
    rests(world, &pool, None).await?;
    // The pool rests for longer than the sweep's interval of a second.
    sleep(Duration::from_millis(2_100)).await;
    let is_closed = world.state().is_closed;
    if !is_closed {
        // The monitor runs until the pool closes.
        monitor_task.abort();
    }
    sleep(Duration::from_millis(1)).await;
    // The background task runs with maintenance off, too.
    rests(world, &pool, Some(usize::from(!is_closed))).await?;
    check_totals(world, &pool)?;
    if plan.has(Feature::Closes) {
        ends(
            "the close",
            vec![tokio::spawn(close(Arc::clone(world), pool.clone()))],
            Duration::from_millis(10 + plan.goodbye()),
        )
        .await?;
    } else {
        removing_all(world);
    }
    world.set_pool(None);
    drop(pool);
    sleep(Duration::from_millis(2 + plan.goodbye())).await;
    gone(world)
}

/// Waits for tasks. Fails if one of them panics or does not end in time.
async fn ends(who: &str, tasks: Vec<JoinHandle<()>>, patience: Duration) -> Result<(), String> {
    let all = async {
        for (number, task) in tasks.into_iter().enumerate() {
            task.await.map_err(|error| format!("{who}, number {number}: {error}"))?;
        }
        Ok(())
    };
    timeout(patience, all).await.unwrap_or_else(|_| Err(format!("{who} has not ended within {patience:?}")))
}

fn removing_all(world: &World) {
    let listed: Vec<_> = world.state().servers.iter().map(|server| server.is_listed).collect();
    (0..listed.len()).filter(|&server| listed[server]).for_each(|server| removing(world, server));
}

async fn close(world: Arc<World>, pool: Pool<SimConnector>) {
    world.record(Event::PoolCloses);
    removing_all(&world);
    world.state().is_closed = true;
    pool.close().await;
    let open: u32 = world.state().servers.iter().map(|server| server.open).sum();
    if open > 0 {
        world.violated(format!("the pool has closed and {open} connections are open"));
    }
}

/// Waits for a moment at which the pool rests, if it keeps connections idle or checks them; else it must rest now.
async fn rests(world: &World, pool: &Pool<SimConnector>, expected: Option<usize>) -> Result<(), String> {
    let is_busy = world.plan.has(Feature::Goodbyes)
        || world.plan.maintenance && (world.plan.min_idle > 0 || world.plan.idle_check_interval.is_some());
    let mut left = if is_busy { 2 * world.plan.sweep() } else { 0 };
    loop {
        let rests = is_at_rest(world, pool).and_then(|()| expected.map_or(Ok(()), tasks));
        if rests.is_ok() || left == 0 {
            return rests;
        }
        left -= 1;
        sleep(Duration::from_millis(1)).await;
    }
}

/// Checks the pool at rest: no caller, no attempt, and every open connection is idle.
fn is_at_rest(world: &World, pool: &Pool<SimConnector>) -> Result<(), String> {
    let status = pool.status();
    let state = world.state();
    if status.waiters > 0 || state.wait_queue.unserved() > 0 || !state.attempts.is_empty() {
        return Err(format!("{} wait and {} attempts are under way, at rest", status.waiters, state.attempts.len()));
    }
    for server in &status.servers {
        let seen = state.servers[state.find(&server.address)].open;
        if (server.open - server.closing) as usize != server.idle || server.open != seen || server.connecting > 0 {
            return Err(format!("at rest the network sees {seen} connections of {server:?}"));
        }
        let kept = world.plan.kept_idle();
        if server.state == ServerState::Up && server.idle < kept && server.open < server.max_conns {
            return Err(format!("at rest fewer than {kept} are idle of {server:?}"));
        }
    }
    Ok(())
}

/// The pool's totals at rest, more than a second after the last use.
fn check_totals(world: &World, pool: &Pool<SimConnector>) -> Result<(), String> {
    let status = pool.status();
    let PoolStatus { totals, wait_timeouts, queue_full, .. } = &status;
    let said = Counts {
        uses_ended: totals.checkouts,
        connects: totals.connects,
        connect_failures: totals.connect_failures,
        connect_timeouts: totals.connect_timeouts,
        wait_timeouts: *wait_timeouts,
        queue_full: *queue_full,
    };
    let counts = world.state().counts;
    let open: u64 = status.servers.iter().map(|server| u64::from(server.open)).sum();
    let closes = world.state().closes;
    let is_counted = CloseReason::ALL.iter().all(|&why| totals.closes(why) == closes[why as usize]);
    let is_balanced = totals.connects == totals.closed() + open && is_counted;
    if said != counts || !is_balanced || totals.successes > totals.checkouts {
        return Err(format!("the totals say {totals:?} and {said:?}, with {open} open; it is {counts:?}, {closes:?}"));
    }
    Ok(())
}

fn tasks(expected: usize) -> Result<(), String> {
    let alive = Handle::current().metrics().num_alive_tasks();
    if alive == expected { Ok(()) } else { Err(format!("{alive} tasks are alive instead of {expected}")) }
}

/// Checks that a dropped pool left no connection, no task and no reference to the connector.
fn gone(world: &Arc<World>) -> Result<(), String> {
    tasks(0)?;
    let state = world.state();
    for server in &state.servers {
        if server.open > 0 || server.connecting > 0 {
            return Err(format!("{} connections to {} are left over", server.open, server.address));
        }
    }
    let ms = world.now() / MS;
    match Arc::strong_count(world) {
        1 => Ok(()),
        count => Err(format!("{} references to the connector are left at {ms} ms", count - 1)),
    }
}
