//! The model of what callers report: which report ejects a server, and which good return ends its recovery.
//!
//! The model is exact where it is sure that a connection belongs to the server's current outage. Where a server may
//! have gone down and come back unseen, it only checks that a report does nothing but eject, within the cap.

use std::time::Duration;

use connring::{PoolStatus, PooledConn, ServerState};

use super::check::is_up;
use super::rig::{ABANDONED_AFTER, BACKOFF, Conn, Rig};

/// For how long a report adds to those before it.
const STRIKES_LAST: Duration = Duration::from_secs(10);
/// A time in a packed word is rounded up to a step, and outages have different ones.
const ROUNDING: Duration = Duration::from_micros(100);

/// How a use of a connection ends, or what is reported meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure { eject_for: Option<Duration> },
    Abandoned,
    None,
}

/// A connection that is checked out.
pub(super) struct Held {
    pub(super) conn: Conn,
    since: Duration,
    /// How often the server may have gone down before the checkout. `None`: the connection may be of an older outage.
    outages: Option<u64>,
    has_verdict: bool,
}

/// What was reported of a server.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// The last report and how many came in a row; `None` if that is not known.
    strikes: Option<(Duration, u32)>,
    /// The last good return.
    answered_at: Option<Duration>,
    /// Changes of the server's state that were seen.
    pub(super) changes: u64,
    /// The latest end of an ejection.
    pub(super) ejected_until: Duration,
    /// Connections that came back without a good return: they may be of an older outage.
    unsure: Vec<u64>,
}

/// What a report is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    Ejects,
    /// If it recovers, it is up.
    Recovers,
    Unknown,
}

impl Reports {
    pub(super) fn forget(&mut self) {
        self.strikes = None;
    }

    fn count(&mut self, now: Duration) -> Option<u32> {
        let (last, count) = self.strikes?;
        let count = if now - last > STRIKES_LAST { 1 } else { count + 1 };
        self.strikes = Some((now, count));
        Some(count)
    }
}

impl Rig {
    /// How often a server may have gone down so far: changes of its state that were seen, failed attempts, and probes.
    fn outages(&self, name: &str) -> u64 {
        let counts = self.counts(name);
        let model = self.models.iter().find(|model| model.name == name).expect("the server has a model");
        counts.attempts - counts.connected + counts.checks + model.reports.changes
    }

    pub(super) fn holding(&self, conn: Conn, name: &str) -> Held {
        let model = self.models.iter().find(|model| model.name == name).expect("the server has a model");
        let is_sure = is_up(state_of(&self.pool.status(), name)) && !model.reports.unsure.contains(&conn.id());
        let outages = is_sure.then(|| self.outages(name));
        Held { conn, since: self.clock.now(), outages, has_verdict: false }
    }

    /// Ends the use of a connection.
    pub(super) fn end(&mut self, which: u8, verdict: Verdict, end: impl FnOnce(Conn)) {
        let Some(held) = self.held(which) else { return };
        let (name, id) = (name_of(&held.conn), held.conn.id());
        let before = self.pool.status();
        let effect = self.effect(&held, &name, verdict, &before);
        if verdict == Verdict::Success && held.has_verdict {
            self.model(&name).reports.unsure.push(id);
        }
        end(held.conn);
        self.check_effect(&name, verdict, effect, &before);
    }

    /// Reports on a connection that stays checked out.
    pub(super) fn report(&mut self, which: u8, verdict: Verdict, report: impl FnOnce(&mut Conn)) {
        let Some(mut held) = self.held(which) else { return };
        let name = name_of(&held.conn);
        let before = self.pool.status();
        let effect = self.effect(&held, &name, verdict, &before);
        report(&mut held.conn);
        held.has_verdict = true;
        self.held.push(held);
        self.check_effect(&name, verdict, effect, &before);
    }

    fn effect(&mut self, held: &Held, name: &str, verdict: Verdict, before: &PoolStatus) -> Effect {
        let (now, rules, failures, maintenance) = (self.clock.now(), self.rules, self.failures, self.maintenance);
        let is_sure = held.outages == Some(self.outages(name));
        let state = state_of(before, name);
        let registered = self.listed.len();
        let serving = before.servers.iter().filter(|server| is_up(server.state)).count();
        let reports = &mut self.model(name).reports;
        let eject_for = match verdict {
            _ if held.has_verdict => return Effect::Nothing,
            Verdict::None => return Effect::Nothing,
            Verdict::Success => {
                reports.answered_at = Some(now);
                reports.strikes =
                    (is_sure && is_up(state)).then_some((now, 0)).or(reports.strikes.filter(|_| !is_up(state)));
                return match state {
                    ServerState::Recovering if is_sure => Effect::Recovers,
                    ServerState::Recovering => Effect::Unknown,
                    _ => Effect::Nothing,
                };
            }
            Verdict::Failure { eject_for } => eject_for,
            Verdict::Abandoned => {
                // Zero is no time of an answer.
                let answered = reports.answered_at.is_some_and(|at| at >= held.since && at > Duration::ZERO);
                let is_late = now - held.since >= ABANDONED_AFTER && !answered;
                if !rules.abandons || !maintenance && !is_late {
                    return Effect::Nothing;
                }
                if maintenance {
                    // The coarse time decides.
                    reports.strikes = None;
                    return if is_up(state) { Effect::Unknown } else { Effect::Nothing };
                }
                None
            }
        };
        if !is_up(state) {
            return Effect::Nothing;
        }
        if !is_sure {
            reports.strikes = None;
            return Effect::Unknown;
        }
        let count = reports.count(now);
        let is_enough = eject_for.is_some() || state == ServerState::Recovering;
        let is_enough = is_enough
            || match count {
                Some(count) => count >= failures,
                None => return Effect::Unknown,
            };
        if !is_enough {
            return Effect::Nothing;
        }
        reports.strikes = Some((now, 0));
        if rules.allows_ejection(registered, serving) { Effect::Ejects } else { Effect::Nothing }
    }

    fn check_effect(&mut self, name: &str, verdict: Verdict, effect: Effect, before: &PoolStatus) {
        let (now, rules, registered) = (self.clock.now(), self.rules, self.listed.len());
        let after = self.pool.status();
        let [was, is] = [before, &after].map(|status| state_of(status, name));
        for server in before.servers.iter().filter(|server| *server.name != *name) {
            assert_eq!(state_of(&after, &server.name), server.state, "another server changed");
        }
        let (was_up, serving) = (is_up(was), before.servers.iter().filter(|server| is_up(server.state)).count());
        let ejected = match is {
            ServerState::Ejected { retry_after } if was_up => Some(retry_after),
            _ => None,
        };
        if let Some(time) = ejected {
            assert!(rules.allows_ejection(registered, serving), "beyond the cap: {after:?}");
            let reports = &mut self.model(name).reports;
            let earlier = reports.ejected_until.saturating_sub(now);
            let (least, most) = match verdict {
                Verdict::Failure { eject_for: Some(time) } => (time, time),
                _ => (5 * BACKOFF, 60 * BACKOFF),
            };
            assert!(least <= time && time <= most.max(earlier) + ROUNDING, "{time:?} of {least:?} to {most:?}");
            reports.ejected_until = reports.ejected_until.max(now + time);
            reports.strikes = Some((now, 0));
        }
        let is_right = match effect {
            Effect::Ejects => ejected.is_some(),
            Effect::Recovers => is == ServerState::Up,
            Effect::Nothing => is == was || !is_listed(&after, name),
            Effect::Unknown => is == was || ejected.is_some() || is == ServerState::Up,
        };
        assert!(is_right, "{verdict:?} should have done this: {effect:?}, but {name} was {was:?} and is {is:?}");
    }
}

fn name_of(conn: &Conn) -> String {
    PooledConn::info(conn).server().name().to_owned()
}

fn is_listed(status: &PoolStatus, name: &str) -> bool {
    status.servers.iter().any(|server| *server.name == *name)
}

/// The state of a server; draining, also if nothing is left of it.
fn state_of(status: &PoolStatus, name: &str) -> ServerState {
    status.servers.iter().find(|server| *server.name == *name).map_or(ServerState::Draining, |server| server.state)
}
