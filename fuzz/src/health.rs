//! Compares the health of several servers, and what counts beside it, with plain enums and lists: the number of servers
//! that serve, the failures in a row that callers reported, and the connections that answered.
//!
//! The words' formats add documented limits: times are rounded up to 10 µs, an outage number is at least one such step
//! later than the one before it. The clock stays within the ten years in which outage numbers are unique.

use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::{Answered, Ejected, Health, HealthState, Outage, Serving, Strikes, TIERS, Time};

const STEP_NS: u64 = 10_000;
const YEAR_NS: u64 = 365 * 24 * 3_600 * 1_000_000_000;
const FORGIVEN_AFTER_NS: u64 = 10_000_000_000;
const MEMORY: Duration = Duration::from_secs(5);
const MAX_SERVERS: u8 = 12;
const MAX_OPS: usize = 600;
const MAX_OUTAGES: usize = 24;
const MAX_CONNS: usize = 12;

#[derive(Debug, Arbitrary)]
struct Case {
    servers: u8,
    /// The part of the servers that may be ejected, in twentieths.
    ratio: u8,
    ops: Vec<(u8, Op)>,
}

/// What happens to a server.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Op {
    /// Remembers the outage number, as an attempt or a connection does.
    Remember,
    ConnectFails(u8),
    /// The duration is the number of ejections times 2 to this power, in nanoseconds.
    Eject(u8, u8),
    EndEjection,
    Recover(u8),
    Answers(u8),
    Recovered(u8),
    SetRemoved(bool),
    SetDisabled(bool),
    SetTier(u8),
    Strike,
    Clear,
    Open,
    /// A connection comes back well, under an outage number.
    Returns(u8, u8),
    Close(u8),
    Forward(u16, u8),
    Backward(u16, u8),
    /// Sets the clock to the end of the last ejection plus an offset in nanoseconds.
    ToEnd(i16),
    /// Goes down by connecting and recovers this many times.
    Flap(u8),
    BeginAnew,
}

/// The states of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    Up,
    Recovering,
    Down { is_ejected: bool },
}

struct Server {
    health: Health,
    strikes: Strikes,
    answered: Answered,
    model: Model,
    is_disabled: bool,
    is_removed: bool,
    tier: usize,
    /// The ejections in a row, the end of the last one, the time served since then, and since when the server serves
    /// now.
    ejections: u32,
    until_ns: u64,
    served_ns: u64,
    serves_since_ns: Option<u64>,
    /// How often the server went down or began anew.
    downs: usize,
    /// The time of the outage number, in steps.
    time: u64,
    /// Numbers of `raw`, each with that of the reference.
    outages: Vec<(Outage, usize)>,
    /// The failures in a row, and the time of the first one, in steps.
    failures: (u32, u64),
    /// The open connections: under which outage each one has answered last.
    conns: Vec<Option<(Outage, usize)>>,
    /// The newest outage under which any answered.
    newest: Option<usize>,
    answered_ns: u64,
}

struct Run {
    serving: Serving,
    servers: Vec<Server>,
    ratio: u8,
    now_ns: u64,
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let servers = 1 + case.servers % MAX_SERVERS;
    let mut run = Run { serving: Serving::default(), servers: Vec::new(), ratio: case.ratio % 21, now_ns: 0 };
    for _ in 0..servers {
        run.servers.push(Server::new());
        run.step(run.servers.len() - 1, Op::SetRemoved(false));
    }
    for (at, op) in case.ops.into_iter().take(MAX_OPS) {
        let at = usize::from(at % servers);
        run.step(at, op);
        run.check(at);
    }
}

impl Server {
    fn new() -> Self {
        let health = Health::new(0);
        let first = health.snapshot().outage();
        Self {
            health,
            strikes: Strikes::default(),
            answered: Answered::default(),
            model: Model::Up,
            is_disabled: false,
            is_removed: true,
            tier: 0,
            ejections: 0,
            until_ns: 0,
            served_ns: 0,
            serves_since_ns: None,
            downs: 0,
            time: 0,
            outages: vec![(first, 0)],
            failures: (0, 0),
            conns: Vec::new(),
            newest: None,
            answered_ns: 0,
        }
    }

    fn is_down(&self) -> bool {
        matches!(self.model, Model::Down { .. })
    }

    fn serves(&self) -> bool {
        !self.is_down() && !self.is_disabled && !self.is_removed
    }

    /// Returns a remembered outage, counted from the latest one, and whether it is the current one.
    fn outage(&self, which: u8) -> (Outage, bool) {
        let (outage, downs) = self.outages[self.outages.len() - 1 - usize::from(which) % self.outages.len()];
        (outage, downs == self.downs)
    }

    fn ejections_left(&self, now_ns: u64) -> u32 {
        let served_ns = self.served_ns + self.serves_since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        self.ejections.saturating_sub((served_ns / FORGIVEN_AFTER_NS).try_into().unwrap_or(u32::MAX))
    }

    fn takes_next_number(&mut self, now_ns: u64, model: Model) {
        self.time = now_ns.div_ceil(STEP_NS).max(self.time + 1);
        (self.model, self.downs) = (model, self.downs + 1);
        self.remember();
    }

    /// What happened at `now_ns` may have ended or begun its service.
    fn note_service(&mut self, now_ns: u64) {
        match (self.serves_since_ns, self.serves()) {
            (Some(since_ns), false) => {
                (self.served_ns, self.serves_since_ns) = (self.served_ns + now_ns.saturating_sub(since_ns), None);
            }
            (None, true) => self.serves_since_ns = Some(now_ns),
            _ => {}
        }
    }

    fn remember(&mut self) {
        if self.outages.len() == MAX_OUTAGES {
            self.outages.remove(1);
        }
        self.outages.push((self.health.snapshot().outage(), self.downs));
    }
}

impl Run {
    fn step(&mut self, at: usize, op: Op) {
        self.apply(at, op);
        self.servers[at].note_service(self.now_ns);
    }

    fn apply(&mut self, at: usize, op: Op) {
        let Self { serving, servers, now_ns, .. } = self;
        let (server, now) = (&mut servers[at], Time::from_nanos(*now_ns));
        match op {
            Op::Remember => server.remember(),
            Op::ConnectFails(which) => self.connect_fails(at, which),
            Op::Eject(which, exponent) => self.eject(at, which, exponent),
            Op::EndEjection => {
                let was = server.model == Model::Down { is_ejected: true };
                assert_eq!(server.health.end_ejection(), was);
                if was {
                    server.model = Model::Down { is_ejected: false };
                }
            }
            Op::Recover(which) => {
                let (outage, is_current) = server.outage(which);
                let recovers = server.is_down() && is_current;
                assert_eq!(server.health.begin_recovery(serving, outage, now).is_some(), recovers);
                if recovers {
                    server.model = Model::Recovering;
                }
            }
            Op::Answers(which) => {
                let (outage, is_current) = server.outage(which);
                let is_ejected = server.model == Model::Down { is_ejected: true } && *now_ns < server.until_ns;
                let answers = server.is_down() && !is_ejected && is_current;
                assert_eq!(server.health.come_up(serving, outage, now), answers);
                if answers {
                    server.model = Model::Up;
                }
            }
            Op::Recovered(which) => {
                let (outage, is_current) = server.outage(which);
                let recovered = server.model == Model::Recovering && is_current;
                assert_eq!(server.health.end_recovery(outage), recovered);
                if recovered {
                    server.model = Model::Up;
                }
            }
            Op::SetRemoved(is) => self.set_removed(at, is),
            Op::SetDisabled(is) => {
                assert_eq!(server.health.set_disabled(serving, is, now), server.is_disabled != is);
                server.is_disabled = is;
            }
            Op::SetTier(tier) => {
                // As in the pool: registered in both meanwhile.
                let (from, to) = (server.tier, usize::from(tier) % TIERS);
                if !server.is_removed {
                    serving.register(to);
                }
                assert_eq!(server.health.set_tier(serving, to, now), from != to);
                if !server.is_removed {
                    serving.remove(from);
                }
                server.tier = to;
            }
            Op::Strike => {
                let (count, first) = server.failures;
                let is_late = u128::from(now_ns.saturating_sub(first * STEP_NS)) > MEMORY.as_nanos();
                let starts = count == 0 || is_late;
                server.failures = if starts { (1, now_ns.div_ceil(STEP_NS)) } else { (count + 1, first) };
                assert_eq!(server.strikes.count(now, MEMORY), server.failures.0);
            }
            Op::Clear => {
                server.strikes.clear();
                server.failures = (0, 0);
            }
            Op::Open if server.conns.len() < MAX_CONNS => server.conns.push(None),
            Op::Open => {}
            Op::Returns(conn, which) => self.returns(at, conn, which),
            Op::Close(conn) => {
                let (open, conns) = (server.conns.len(), &mut server.conns);
                let closed = (open > 0).then(|| conns.swap_remove(usize::from(conn) % open));
                closed.flatten().into_iter().for_each(|(outage, _)| server.answered.discount_proven(outage));
            }
            Op::Forward(by, exponent) => self.set_clock(self.now_ns.saturating_add(u64::from(by) << (exponent % 44))),
            Op::Backward(by, exponent) => self.set_clock(self.now_ns.saturating_sub(u64::from(by) << (exponent % 44))),
            Op::ToEnd(by) => self.set_clock(self.servers[at].until_ns.saturating_add_signed(by.into())),
            Op::Flap(times) => {
                for _ in 0..times {
                    self.step(at, Op::ConnectFails(0));
                    self.step(at, Op::Recover(0));
                }
            }
            Op::BeginAnew => {
                server.health.begin_anew(now);
                server.takes_next_number(*now_ns, server.model);
            }
        }
    }

    fn set_clock(&mut self, now_ns: u64) {
        self.now_ns = now_ns.min(10 * YEAR_NS);
    }

    fn connect_fails(&mut self, at: usize, which: u8) {
        let Self { serving, servers, now_ns, .. } = self;
        let server = &mut servers[at];
        let (outage, is_current) = server.outage(which);
        let goes_down = !server.is_down() && is_current;
        let failed = server.health.connect_failed(serving, outage, Time::from_nanos(*now_ns));
        assert_eq!(failed, goes_down.then(|| server.health.snapshot()));
        if goes_down {
            server.takes_next_number(*now_ns, Model::Down { is_ejected: false });
        }
    }

    fn eject(&mut self, at: usize, which: u8, exponent: u8) {
        let tier = self.servers[at].tier;
        let serving = self.servers.iter().filter(|server| server.serves());
        let out = usize::from(self.servers[at].serves());
        let (others, is_backed) = (serving.clone().count() - out, serving.clone().any(|server| server.tier > tier));
        let left = serving.filter(|server| server.tier == tier).count() - out;
        let registered = self.servers.iter().filter(|server| !server.is_removed && server.tier == tier).count();
        let keeps_part = 20 * (registered - left) <= usize::from(self.ratio) * registered;
        let within = others >= 1 && (is_backed || keeps_part);
        let Self { serving, servers, now_ns, ratio } = self;
        let (now_ns, server) = (*now_ns, &mut servers[at]);
        let until_ns = |ejections: u32| now_ns.saturating_add(u64::from(ejections) << (exponent % 59));
        let until = |ejections| Time::from_nanos(until_ns(ejections));
        let (outage, is_current) = server.outage(which);
        let ejected = server.health.eject(serving, outage, f64::from(*ratio) / 20.0, Time::from_nanos(now_ns), until);
        if server.is_down() || server.is_removed || !is_current {
            return assert_eq!(ejected, Ejected::Ignored);
        }
        if !within {
            return assert_eq!(ejected, Ejected::Refused);
        }
        assert_eq!(ejected, Ejected::Down(server.health.snapshot()));
        server.ejections = server.ejections_left(now_ns) + 1;
        server.until_ns = until_ns(server.ejections);
        (server.served_ns, server.serves_since_ns) = (0, None);
        server.takes_next_number(now_ns, Model::Down { is_ejected: true });
    }

    /// As in the pool: a server is registered before it may serve, and counts no more before it is removed.
    fn set_removed(&mut self, at: usize, is: bool) {
        let Self { serving, servers, now_ns, .. } = self;
        let (server, now) = (&mut servers[at], Time::from_nanos(*now_ns));
        let changes = server.is_removed != is;
        if changes && !is {
            serving.register(server.tier);
        }
        assert_eq!(server.health.set_removed(serving, is, now), changes);
        if changes && is {
            serving.remove(server.tier);
        }
        server.is_removed = is;
    }

    fn returns(&mut self, at: usize, conn: u8, which: u8) {
        let server = &mut self.servers[at];
        if server.conns.is_empty() {
            return;
        }
        let which = server.outages.len() - 1 - usize::from(which) % server.outages.len();
        let (outage, number) = server.outages[which];
        let conn = usize::from(conn) % server.conns.len();
        // A connection takes the outage number at each good return, and numbers only grow.
        if server.conns[conn].is_none_or(|(_, before)| before < number) {
            if let Some((before, _)) = server.conns[conn] {
                server.answered.discount_proven(before);
            }
            server.answered.count_proven(outage);
            server.conns[conn] = Some((outage, number));
            server.newest = server.newest.max(Some(number));
        }
        server.answered.note(Time::from_nanos(self.now_ns));
        server.answered_ns = self.now_ns;
    }

    fn check(&self, at: usize) {
        let server = &self.servers[at];
        let snapshot = server.health.snapshot();
        let state = match server.model {
            Model::Up => HealthState::Up,
            Model::Recovering => HealthState::Recovering,
            Model::Down { .. } => HealthState::Down,
        };
        assert_eq!((snapshot.state(), snapshot.is_down()), (state, server.is_down()));
        assert_eq!((snapshot.serves(), snapshot.is_disabled()), (server.serves(), server.is_disabled));
        assert_eq!(snapshot, server.health.snapshot_after_push());
        assert_eq!(snapshot.is_plainly_up(), server.serves() && server.model == Model::Up);
        let is_ejected = server.model == Model::Down { is_ejected: true };
        assert_eq!(snapshot.is_ejected(), is_ejected);
        assert_eq!(server.health.ejected_until(), is_ejected.then(|| Time::from_nanos(server.until_ns)));
        let serving = self.servers.iter().filter(|server| server.serves()).count();
        assert_eq!(self.serving.serving() as usize, serving, "the count is that of the servers that serve");
        assert_eq!(snapshot.tier(), server.tier);
        let serves = self.servers.iter().any(|other| other.serves() && other.tier == server.tier);
        assert_eq!(self.serving.has_serving(server.tier), serves);
        let is_worse = |other: &Server| !other.is_removed && other.tier > server.tier;
        assert_eq!(self.serving.has_worse(server.tier), self.servers.iter().any(is_worse));
        for &(outage, downs) in &server.outages {
            assert_eq!(snapshot.outage() == outage, downs == server.downs, "each outage has its own number");
            let is_open = |conn: &Option<_>| matches!(conn, Some((_, number)) if *number == downs);
            let is_any_open = server.newest == Some(downs) && server.conns.iter().any(is_open);
            assert_eq!(server.answered.is_any_proven(outage), is_any_open, "{downs}: {:?}", server.conns);
        }
        assert_eq!(server.strikes.is_clear(), server.failures == (0, 0));
        let at_ns = server.answered_ns;
        for since in [self.now_ns, at_ns, at_ns + 1] {
            assert_eq!(server.answered.is_since(Time::from_nanos(since)), at_ns != 0 && at_ns >= since);
        }
    }
}
