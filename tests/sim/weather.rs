//! Trouble: servers refuse, hang, die, answer slowly and come back; the operator adds and removes them.

use std::sync::Arc;
use std::time::Duration;

use connring::Pool;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::features::Feature;
use crate::net::SimConnector;
use crate::plan::{Limits, POLICIES, stream};
use crate::rng::Rng;
use crate::world::{Event, MS, State, World};

/// A server's behaviour towards new attempts and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Good,
    Refuses,
    /// Swallows attempts and requests.
    Hangs,
    Slow {
        connect_ms: u64,
        answer_ms: u64,
    },
    /// A client fault: attempts fail for lack of a local resource.
    OwnFault,
    /// Fails a share of its requests at once.
    Fails {
        percent: u64,
    },
    /// Accepts connections, and answers nothing.
    Mute,
    /// Refuses more connections than these.
    Limited {
        conns: u32,
    },
}

fn set_mode(world: &World, server: usize, mode: Mode) {
    let now = world.now();
    let mut state = world.state();
    state.servers[server].mode = mode;
    state.trace.push((now, Event::Server { server, becomes: mode }));
}

/// Breaks the server's connections. The clients see it a little later, or never if the machine is lost.
fn kill(world: &World, rng: &mut Rng, server: usize) {
    let now = world.now();
    let is_silent = world.plan.has(Feature::SilentDeaths) && rng.chance(40);
    let told_after_ms = if is_silent { None } else { Some(rng.pick(&[0, 1, 5])) };
    let mut state = world.state();
    let dead = &mut state.servers[server];
    dead.incarnation += 1;
    dead.told_at.push(told_after_ms.map(|ms| now + ms * MS));
    state.trace.push((now, Event::ServerDies { server, told_after_ms }));
}

/// Brings trouble until all is good again.
pub(crate) async fn blow(world: Arc<World>) {
    let mut rng = Rng::new(world.plan.seed, stream::WEATHER);
    let plan = &world.plan;
    let mut kinds = Vec::new();
    let [slow_attempts, slow_answers] = [Feature::SlowConnects, Feature::SlowAnswers].map(|feature| plan.has(feature));
    let has = [
        (plan.has(Feature::Refusals), 0),
        (plan.has(Feature::Deaths), 1),
        (plan.has(Feature::Refusals) && plan.has(Feature::Deaths), 2),
        (plan.has(Feature::Hangs), 3),
        (slow_attempts || slow_answers, 4),
        (plan.has(Feature::LocalFaults), 5),
        (plan.has(Feature::FailingRequests), 6),
        (plan.has(Feature::Mute), 7),
        (plan.has(Feature::ServerLimits), 8),
    ];
    kinds.extend(has.into_iter().filter_map(|(has, kind)| has.then_some(kind)));
    while !kinds.is_empty() {
        sleep(Duration::from_millis(rng.within(1..=80))).await;
        if world.state().is_calm {
            return;
        }
        let server = rng.within(0..=plan.servers as u64 - 1) as usize;
        // In half of the cases a server recovers.
        if rng.chance(50) {
            set_own_faults(&world, false);
            set_mode(&world, server, Mode::Good);
            continue;
        }
        match rng.pick(&kinds) {
            0 => set_mode(&world, server, Mode::Refuses),
            // Restarts within a moment.
            1 => kill(&world, &mut rng, server),
            2 => {
                set_mode(&world, server, Mode::Refuses);
                kill(&world, &mut rng, server);
            }
            3 => set_mode(&world, server, Mode::Hangs),
            4 => {
                let connect_ms = if slow_attempts { rng.pick(&[10, 30, 90]) } else { 1 };
                let answer_ms = if slow_answers { rng.pick(&[2, 20, 60]) } else { 1 };
                set_mode(&world, server, Mode::Slow { connect_ms, answer_ms });
            }
            5 => set_own_faults(&world, true),
            6 => set_mode(&world, server, Mode::Fails { percent: rng.pick(&[20, 60, 100]) }),
            7 => set_mode(&world, server, Mode::Mute),
            _ => set_mode(&world, server, Mode::Limited { conns: rng.within(0..=2) as u32 }),
        }
    }
}

fn set_own_faults(world: &World, begin: bool) {
    let now = world.now();
    let mut state = world.state();
    if state.own_faults != begin {
        state.own_faults = begin;
        state.trace.push((now, Event::OwnFaults { begin }));
    }
}

/// From here on every server is good.
pub(crate) fn clear_up(world: &World) {
    set_own_faults(world, false);
    for server in 0..world.plan.servers {
        set_mode(world, server, Mode::Good);
    }
    world.record(Event::AllGood);
    world.state().is_calm = true;
}

/// The operator: registers, deregisters, and sets all servers at once.
pub(crate) struct Operator {
    pub(crate) world: Arc<World>,
    pub(crate) pool: Pool<SimConnector>,
    pub(crate) rng: Rng,
    pub(crate) drains: Vec<JoinHandle<()>>,
}

impl Operator {
    pub(crate) async fn run(mut self) {
        self.order().await;
        for drain in self.drains.drain(..) {
            if let Err(error) = drain.await {
                self.world.violated(format!("a drain: {error}"));
            }
        }
    }

    async fn order(&mut self) {
        let has = |feature| self.world.plan.has(feature);
        let kinds = [
            Feature::Registrations,
            Feature::Registrations,
            Feature::SetServers,
            Feature::Flaps,
            Feature::Resets,
            Feature::Weights,
            Feature::Disables,
            Feature::Drains,
        ];
        let kinds: Vec<_> = kinds.into_iter().filter(|&feature| has(feature)).collect();
        while !kinds.is_empty() {
            sleep(Duration::from_millis(self.rng.within(1..=120))).await;
            if self.is_over() {
                return;
            }
            self.world.sync();
            let listed: Vec<_> = self.world.state().servers.iter().map(|server| server.is_listed).collect();
            let server = self.rng.within(0..=listed.len() as u64 - 1) as usize;
            match self.rng.pick(&kinds) {
                Feature::SetServers => {
                    self.world.record(Event::SetsServers);
                    self.set_servers(&listed);
                }
                Feature::Flaps => self.flap(&listed).await,
                Feature::Disables => self.disable_some(&listed),
                Feature::Drains if listed[server] => self.drain_or_enable(server),
                Feature::Drains => {}
                Feature::Weights => {
                    let policy = self.rng.pick(&POLICIES);
                    self.world.record(Event::SetsPolicy { policy });
                    self.pool.set_load_balancing(policy);
                }
                Feature::Resets if listed[server] => self.reset(server),
                Feature::Resets => {}
                _ if listed[server] => {
                    self.deregister(server);
                    // At once again, now and then.
                    if self.rng.chance(30) {
                        self.register(server, None);
                    }
                }
                _ => self.register(server, None),
            }
        }
    }

    fn is_over(&self) -> bool {
        let state = self.world.state();
        state.is_calm || state.is_closed
    }

    /// Removes servers, and registers them again with the same limits: at once, or some time later.
    async fn flap(&mut self, listed: &[bool]) {
        let mut flapping: Vec<_> = (0..listed.len()).filter(|&server| listed[server]).collect();
        flapping.retain(|_| self.rng.chance(60));
        for _ in 0..self.rng.within(1..=6) {
            let at_once = self.rng.chance(50);
            self.world.record(Event::Flaps { at_once });
            flapping.iter().for_each(|&server| self.deregister(server));
            if !at_once {
                sleep(Duration::from_millis(self.rng.within(1..=20))).await;
            }
            if self.world.state().is_closed {
                return;
            }
            self.world.sync();
            for &server in &flapping {
                let limits = self.world.state().servers[server].held.limits();
                self.register(server, Some(limits));
            }
            if self.is_over() {
                return;
            }
            sleep(Duration::from_millis(self.rng.within(1..=20))).await;
            if self.is_over() {
                return;
            }
            self.world.sync();
        }
    }

    fn reset(&self, server: usize) {
        self.world.record(Event::Resets { server });
        let address = {
            let mut state = self.world.state();
            end_attempts(&mut state, server);
            state.servers[server].touched = self.world.now();
            state.servers[server].reset(self.world.now());
            state.servers[server].address.clone()
        };
        if let Err(error) = self.pool.reset_server(&address) {
            self.world.violated(format!("{address} cannot be reset: {error}"));
        }
    }

    fn register(&mut self, server: usize, limits: Option<Limits>) {
        let limits = limits.unwrap_or_else(|| Limits::draw(&mut self.rng, self.world.plan.features));
        self.world.state().servers[server].held.announce(limits);
        let address = self.world.state().servers[server].address.clone();
        if let Err(error) = self.pool.register(limits.server(&address)) {
            self.world.violated(format!("{address} cannot be registered: {error}"));
        }
        self.listed(server, limits);
        self.check_listed(server);
    }

    fn deregister(&mut self, server: usize) {
        self.removing(server);
        let address = self.world.state().servers[server].address.clone();
        if let Err(error) = self.pool.deregister(&address) {
            self.world.violated(format!("{address} cannot be deregistered: {error}"));
        }
        self.world.state().health_changed(self.world.now());
    }

    fn set_servers(&mut self, listed: &[bool]) {
        let mut chosen = Vec::new();
        for (server, &is_listed) in listed.iter().enumerate() {
            if self.rng.chance(70) {
                chosen.push((server, Limits::draw(&mut self.rng, self.world.plan.features)));
            } else if is_listed {
                self.removing(server);
            }
        }
        let servers: Vec<_> = {
            let mut state = self.world.state();
            chosen.iter().for_each(|&(server, limits)| state.servers[server].held.announce(limits));
            chosen.iter().map(|&(server, limits)| limits.server(&state.servers[server].address)).collect()
        };
        if let Err(error) = self.pool.set_servers(servers) {
            self.world.violated(format!("the servers cannot be set: {error}"));
        }
        for &(server, limits) in &chosen {
            self.listed(server, limits);
        }
        self.world.state().health_changed(self.world.now());
        chosen.iter().for_each(|&(server, _)| self.check_listed(server));
    }

    /// Called before the pool removes the server, because it drops idle connections and attempts immediately.
    fn removing(&self, server: usize) {
        removing(&self.world, server);
    }

    /// Called after the pool has registered the server. The pool's status decides whether the server is new to it.
    fn listed(&self, server: usize, limits: Limits) {
        let now = self.world.now();
        let status = self.pool.status();
        let mut state = self.world.state();
        let is_new = state.servers[server].adopt(&status, now, limits);
        let (max_conns, rps) = (limits.max_conns, limits.rate.map_or(f64::INFINITY, |rate| rate.rps));
        state.trace.push((now, Event::Lists { server, max_conns, rps, tier: limits.tier, is_new }));
    }

    /// After all servers of a change were listed.
    pub(crate) fn check_listed(&self, server: usize) {
        let (now, status) = (self.world.now(), self.pool.status());
        let mut state = self.world.state();
        state.sync(&status, now);
        let ahead = state.may_try_ahead(&self.world.plan, status.waiters, now);
        let problem = state.servers[server].disagrees(&status, ahead, now);
        problem.into_iter().for_each(|problem| state.violated(problem));
    }
}

/// Ends the server's attempts. Their outcomes no longer count.
pub(crate) fn removing(world: &World, server: usize) {
    let now = world.now();
    let mut state = world.state();
    state.trace.push((now, Event::Removes { server }));
    state.servers[server].is_listed = false;
    state.servers[server].health.set_removed(true, now);
    state.servers[server].listing_changed = now;
    state.servers[server].reset_at = now;
    state.servers[server].removed_at = Some(now);
    state.servers[server].disabled = None;
    state.servers[server].touched = now;
    end_attempts(&mut state, server);
}

pub(crate) fn end_attempts(state: &mut State, server: usize) {
    let of_server = state.attempts.values_mut().filter(|attempt| attempt.server == server);
    of_server.for_each(|attempt| attempt.is_removed = true);
}
