//! Callers: they acquire by every call, send requests, and end their connections in every way.

use std::sync::Arc;
use std::time::Duration;

use connring::{AcquireError, AcquireOptions, Pool, PooledConn, TryAcquireError};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::features::Feature;
use crate::health::{Breaker, State as Health};
use crate::net::{SimConnector, SimError};
use crate::plan::stream;
use crate::rng::Rng;
use crate::uses::Answer;
use crate::wait_queue::{Accepts, Course, GiveUp, SimulatedCall};
use crate::world::{Event, MS, Server, World};

pub(crate) type Conn = PooledConn<SimConnector>;

/// tokio's timers tick in milliseconds; so do the simulation's.
const TICK: u64 = 2 * MS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Acquire,
    AcquireTimeout {
        ms: u64,
    },
    AcquireNow,
    TryAcquire,
    With {
        wish: Wish,
        ms: Option<u64>,
    },
    /// After the trouble: `acquire_timeout`.
    Last {
        ms: u64,
    },
}

/// The wishes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wish {
    /// A bit for each server.
    avoid: u64,
    prefer: Option<usize>,
    fresh: bool,
}

impl Wish {
    fn avoids(self, server: usize) -> bool {
        self.avoid & 1 << server != 0
    }

    fn accepts(self) -> Accepts {
        match (self.fresh, self.avoid) {
            (false, 0) => Accepts::Every,
            (true, 0) => Accepts::New,
            _ => Accepts::Some,
        }
    }

    fn options(self, ms: Option<u64>) -> AcquireOptions {
        let name = |server| format!("server-{server}");
        let avoided: Vec<_> = (0..64).filter(|&server| self.avoids(server)).map(name).collect();
        let mut options = AcquireOptions::new().avoid(avoided);
        if let Some(ms) = ms {
            options = options.timeout(Duration::from_millis(ms));
        }
        if let Some(server) = self.prefer {
            options = options.prefer(name(server));
        }
        if self.fresh { options.fresh() } else { options }
    }
}

pub(crate) struct Caller {
    pub(crate) world: Arc<World>,
    pool: Pool<SimConnector>,
    pub(crate) number: u64,
    pub(crate) rng: Rng,
}

pub(crate) async fn pause(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

impl Caller {
    pub(crate) fn new(world: &Arc<World>, pool: &Pool<SimConnector>, number: u64) -> Self {
        let rng = Rng::new(world.plan.seed, stream::CALLERS + number);
        Self { world: Arc::clone(world), pool: pool.clone(), number, rng }
    }

    /// Calls until its calls are used up or the trouble is over.
    pub(crate) async fn run(mut self) {
        for _ in 0..self.world.plan.calls {
            match self.rng.within(0..=9) {
                0..=3 => {}
                4..=6 => self.yields().await,
                _ => pause(self.rng.within(1..=40)).await,
            }
            if self.world.state().is_calm {
                return;
            }
            let call = self.pick_call();
            if let Some(conn) = self.call(call).await {
                self.use_it(conn).await;
            }
        }
    }

    /// One checkout, of a good connection if there is one. Returns its server.
    pub(crate) async fn uses_once(&mut self) -> Option<usize> {
        let conn = self.call(Call::Last { ms: 50 }).await?;
        let mut conn = conn;
        let server = conn.server;
        match self.ask(&mut conn, false).await {
            Answer::Whole => self.release(conn),
            // It died with a server long ago.
            _ => self.discard(conn, "discarded broken"),
        }
        Some(server)
    }

    fn pick_call(&mut self) -> Call {
        let ms = self.rng.pick(&[0, 1, 5, 30, 300]);
        let wish = if self.world.plan.has(Feature::Wishes) { self.draw_wish() } else { Wish::default() };
        let calls = [
            (Feature::Wishes, Call::With { wish, ms: Some(ms) }),
            (Feature::Wishes, Call::With { wish, ms: None }),
            (Feature::Acquire, Call::Acquire),
            (Feature::Acquire, Call::Acquire),
            (Feature::AcquireTimeout, Call::AcquireTimeout { ms }),
            (Feature::AcquireNow, Call::AcquireNow),
            (Feature::TryAcquire, Call::TryAcquire),
        ];
        let on = calls.into_iter().filter(|&(feature, _)| self.world.plan.has(feature));
        let on: Vec<_> = on.map(|(_, call)| call).collect();
        self.rng.pick(&on)
    }

    fn draw_wish(&mut self) -> Wish {
        let servers = self.world.plan.servers as u64;
        Wish {
            avoid: if self.rng.chance(60) { self.rng.within(0..=(1 << servers) - 1) } else { 0 },
            prefer: self.rng.chance(30).then(|| self.rng.within(0..=servers - 1) as usize),
            fresh: self.rng.chance(30),
        }
    }

    pub(crate) async fn yields(&mut self) {
        for _ in 0..self.rng.within(0..=3) {
            yield_now().await;
        }
    }

    async fn call(&mut self, call: Call) -> Option<Conn> {
        let world = Arc::clone(&self.world);
        world.record(Event::Calls { caller: self.number, call });
        if call == Call::TryAcquire {
            return self.try_acquire();
        }
        let give_up = match self.rng.within(0..=9) {
            0..=1 if world.plan.has(Feature::Cancels) => GiveUp::After(self.rng.within(0..=60)),
            2 if world.plan.has(Feature::CancelsOnWake) => GiveUp::OnWake,
            _ => GiveUp::Never,
        };
        let rng = Rng::new(self.rng.within(0..=u64::MAX - 1), 0);
        let started = world.now();
        let must_refuse = world.state().must_refuse(started);
        let pool = self.pool.clone();
        let acquire = async move {
            match call {
                Call::AcquireTimeout { ms } | Call::Last { ms } => {
                    pool.acquire_timeout(Duration::from_millis(ms)).await
                }
                Call::AcquireNow => pool.acquire_now().await,
                Call::With { wish, ms } => pool.acquire_with(wish.options(ms)).await,
                Call::Acquire | Call::TryAcquire => pool.acquire().await,
            }
        };
        let joins = match call {
            Call::AcquireNow => None,
            Call::With { wish, .. } => Some(wish.accepts()),
            _ => Some(Accepts::Every),
        };
        let (ended, course) = SimulatedCall::new(&world, self.number, rng, joins, give_up, acquire).await;
        match ended? {
            Ok(conn) => Some(self.got(conn, course, call)),
            Err(error) => {
                self.check_error(call, &error, (started, must_refuse), course);
                None
            }
        }
    }

    fn try_acquire(&mut self) -> Option<Conn> {
        let ahead = self.world.state().wait_queue.first_unserved();
        match self.pool.try_acquire() {
            Ok(conn) => {
                let overtook = ahead.filter(|&ahead| self.world.state().wait_queue.is_unserved(ahead));
                Some(self.got(conn, Course { overtook, ..Course::default() }, Call::TryAcquire))
            }
            Err(error) => {
                let state = self.world.state();
                let is_right = match error {
                    TryAcquireError::Closed => state.is_closed,
                    TryAcquireError::NoServers => state.listed() == 0,
                    _ => true,
                };
                drop(state);
                self.check(is_right, &error);
                None
            }
        }
    }

    fn check(&self, is_right: bool, error: &dyn std::fmt::Display) {
        let why = if is_right { "for a reason" } else { "WITHOUT REASON" };
        self.world.record(Event::Fails { caller: self.number, why });
        if !is_right {
            self.world.violated(format!("caller {} got the error \"{error}\"", self.number));
        }
    }

    fn check_error(
        &self,
        call: Call,
        error: &AcquireError<SimError>,
        (started, must_refuse): (u64, bool),
        course: Course,
    ) {
        self.world.sync();
        let (mut state, now) = (self.world.state(), self.world.now());
        state.counts.wait_timeouts += u64::from(matches!(error, AcquireError::Timeout { .. }));
        state.counts.queue_full += u64::from(matches!(error, AcquireError::QueueFull { .. }));
        state.passed_on = Some(now);
        let is_right = match error {
            AcquireError::Closed => state.is_closed,
            AcquireError::NoServers => state.listed() == 0,
            AcquireError::QueueFull { waiters } => *waiters >= self.world.plan.max_waiters,
            AcquireError::Unavailable(_) => match self.timeout(call) {
                None if call == Call::AcquireNow => !state.could_serve_now(&self.world.plan, now),
                timeout => state.is_pointless(&self.world.plan, started, timeout, now),
            },
            AcquireError::Timeout { .. } => self.timeout(call).is_some_and(|ms| {
                let due = started + ms * MS;
                now >= due && (now <= due + TICK || course.was_late) && !must_refuse
            }),
            _ => false,
        };
        drop(state);
        self.check(is_right, error);
    }

    fn timeout(&self, call: Call) -> Option<u64> {
        match call {
            Call::AcquireTimeout { ms } | Call::Last { ms } => Some(ms),
            Call::With { ms, .. } => ms.or(self.world.plan.wait_timeout),
            Call::Acquire => self.world.plan.wait_timeout,
            Call::AcquireNow | Call::TryAcquire => None,
        }
    }

    /// Checks a connection that was checked out, and its server.
    fn got(&mut self, mut conn: Conn, course: Course, call: Call) -> Conn {
        self.world.sync();
        let now = self.world.now();
        let caller = self.number;
        let status = self.world.plan.has(Feature::Tiers).then(|| self.pool.status());
        let mut state = self.world.state();
        let state = &mut *state;
        state.trace.push((now, Event::Gets { caller, conn: conn.id, server: conn.server }));
        state.tokens_touched = now;
        let is_any_up = state.outage_since.is_none();
        let open = state.open.get_mut(&conn.id).expect("the connection is open");
        (open.in_use, open.since) = (true, now);
        let open = *open;
        let in_flux = state.servers.iter().any(|server| server.health.turned == now || server.listing_changed == now);
        let mut wrong = Vec::new();
        // What is preferred goes first; a new connection is not of the preferred server.
        let is_preferred = matches!(call, Call::With { wish, .. } if !wish.fresh && wish.prefer == Some(conn.server));
        // Since a waiter was served, a better server may have changed in this instant.
        let is_settled = |server: &Server| !course.waited || server.touched < now && state.passed_on != Some(now);
        if let Some(status) = status.filter(|_| !is_preferred && !course.is_late && !in_flux)
            && state.better(conn.server).all(|(_, better)| is_settled(better))
            && !state.may_use_tier_of(&self.world.plan, conn.server, &status, true, now)
        {
            wrong.push("servers of a better tier serve".into());
        }
        if let Call::With { wish, .. } = call {
            if wish.fresh && (conn.uses > 0 || Conn::info(&conn).uses() > 0) {
                wrong.push("it was used, and the caller wanted a new one".into());
            }
            // One to which connecting pauses or hangs does not count, if nothing is idle there.
            let may_be_spent = |index: usize| {
                let health = &state.servers[index].health;
                health.state != Health::Up
                    || health.breaker != Breaker::Closed
                    || state.may_be_late(&self.world.plan, index, now)
            };
            let is_other = |index: usize| {
                state.is_of_best_tier(index)
                    && state.servers[index].serves()
                    && !wish.avoids(index)
                    && !may_be_spent(index)
                    && is_settled(&state.servers[index])
            };
            let has_other = (0..state.servers.len()).any(is_other);
            if wish.avoids(conn.server) && has_other && !is_preferred && !course.is_late && !in_flux {
                wrong.push("the caller avoids its server, and another serves".into());
            }
        }
        let server = &mut state.servers[conn.server];
        server.touched = now;
        if let Some(ahead) = course.overtook {
            wrong.push(format!("it overtook caller {ahead}, which had joined before"));
        }
        if !conn.unread.is_empty() {
            wrong.push(format!("half an answer is in it, to request {:?}", conn.unread));
        }
        if let Some(holder) = conn.holder {
            wrong.push(format!("caller {holder} has the same connection"));
        }
        if state.recycles.contains_key(&conn.id) || conn.ending.is_some() {
            wrong.push(format!("it is recycled, or after_use was not asked: {:?}", conn.ending));
        }
        let may_be_older = |since| course.is_late || course.waited && since == now;
        if server.is_out(may_be_older) {
            wrong.push(format!("its server is out of rotation: {:?}", server.disabled));
        }
        if conn.uses > 0 && !conn.is_released {
            wrong.push("it was not released".into());
        }
        if *Conn::info(&conn).server().address() != *server.address {
            wrong.push(format!("it is said to go to {}", Conn::info(&conn).server().address()));
        }
        if !course.is_late {
            if let Err(why) = server.held.check_out(now) {
                wrong.push(why);
            }
            if !server.is_listed && server.listing_changed != now {
                wrong.push("its server was removed".into());
            }
            let has_answered = open.answered == Some(server.health.outage);
            if is_any_up && !server.health.serves() && !has_answered && !in_flux {
                wrong.push("its server is down, and another is up".into());
            }
            if server.health.serves() && open.outage != server.health.outage && !in_flux {
                wrong.push("its server went down since it was last used".into());
            }
            if server.reset_at > open.opened && server.reset_at < now {
                wrong.push("its server was reset since it was opened".into());
            }
        }
        for wrong in wrong {
            let address = &state.servers[conn.server].address;
            let what = format!("caller {caller} got connection {} to {address}, but {wrong}", conn.id);
            state.violated(what);
        }
        (conn.holder, conn.uses, conn.is_released) = (Some(caller), conn.uses + 1, false);
        conn
    }
}
