//! When a server is added and when it is removed: an answer in, a set of servers and the time of the next look-up out.
//!
//! An answer can lack servers that serve: resolvers rotate and cut long answers, and a part of a look-up can fail. So
//! an answer adds at once what it has, and removes only what several answers lacked for a time. A look-up that failed
//! removes nothing. One that failed for some hosts removes none of theirs.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use connring::Server;

use crate::endpoints::{Endpoint, servers, unique};

/// An address stays until at least this many answers in a row lacked it.
const ABSENT_ANSWERS: u32 = 2;

/// Why a look-up failed.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What a look-up brought.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Empty without a failure: the name has no records.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The lowest TTL of the records.
    pub(crate) ttl: Duration,
    /// Why the look-up failed. With endpoints, it failed for some hosts only.
    pub(crate) failure: Option<Failure>,
    /// These hosts.
    pub(crate) failed_hosts: Vec<Arc<str>>,
}

impl Answer {
    /// No records.
    pub(crate) const EMPTY: Self =
        Self { endpoints: Vec::new(), ttl: Duration::MAX, failure: None, failed_hosts: Vec::new() };

    /// Takes in another part of the same answer.
    pub(crate) fn join(&mut self, other: Self) {
        self.endpoints.extend(other.endpoints);
        self.ttl = self.ttl.min(other.ttl);
        self.failure = self.failure.take().or(other.failure);
        self.failed_hosts.extend(other.failed_hosts);
    }
}

/// What follows from an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    /// The servers, if they changed.
    pub(crate) set: Option<Vec<Server>>,
    /// The time until the next look-up.
    pub(crate) delay: Duration,
}

/// The times of [`Dns`](crate::Dns).
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) min_interval: Duration,
    pub(crate) max_interval: Duration,
    pub(crate) keep_absent: Duration,
    /// `None`: for ever.
    pub(crate) keep_empty: Option<Duration>,
}

#[derive(Debug)]
struct Known {
    endpoint: Endpoint,
    /// When it was first absent, and from how many answers since.
    absent: Option<(Duration, u32)>,
}

/// What is known of one name.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The name, for events.
    name: String,
    times: Times,
    known: BTreeMap<SocketAddr, Known>,
    /// The last set.
    set: Vec<Server>,
    /// Failed look-ups in a row.
    failures: u32,
    /// When the name was first without records.
    empty_since: Option<Duration>,
}

impl Policy {
    pub(crate) fn new(name: &str, times: Times) -> Self {
        let (known, set) = (BTreeMap::new(), Vec::new());
        Self { name: name.to_owned(), times, known, set, failures: 0, empty_since: None }
    }

    /// Takes the answer of a look-up that ended at `now`, a time since any beginning.
    pub(crate) fn hear(&mut self, answer: Answer, now: Duration) -> Step {
        let endpoints = unique(answer.endpoints);
        let delay = match &answer.failure {
            Some(cause) => self.failed(cause),
            None if endpoints.is_empty() => self.empty(now),
            None => self.found(answer.ttl),
        };
        if !endpoints.is_empty() {
            self.empty_since = None;
            self.forget_absent(&endpoints, &answer.failed_hosts, now);
        }
        self.known.extend(endpoints.into_iter().map(|one| (one.address, Known { endpoint: one, absent: None })));
        let set = servers(self.known.values().map(|known| &known.endpoint));
        let has_changed = set != self.set;
        if has_changed {
            self.set.clone_from(&set);
        }
        Step { set: has_changed.then_some(set), delay }
    }

    /// Counts a failure. The first retries come quickly: after a quarter of the shortest interval, then after a half.
    fn failed(&mut self, cause: &Failure) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let (name, servers) = (&*self.name, self.known.len());
        match self.failures {
            1 => tracing::warn!(name, %cause, servers, "a look-up failed, the servers stay"),
            failures => tracing::debug!(name, %cause, servers, failures, "a look-up failed again"),
        }
        self.times.min_interval / (4 >> (self.failures - 1).min(2))
    }

    fn found(&mut self, ttl: Duration) -> Duration {
        if self.failures > 0 || self.empty_since.is_some() {
            tracing::info!(name = self.name, failures = self.failures, "a look-up found records again");
        }
        self.failures = 0;
        ttl.max(self.times.min_interval).min(self.times.max_interval)
    }

    /// Removes all servers if the name has been without records for long.
    fn empty(&mut self, now: Duration) -> Duration {
        let (name, servers) = (&*self.name, self.known.len());
        if self.empty_since.is_none() {
            tracing::warn!(name, servers, keep = ?self.times.keep_empty, "the name has no records, the servers stay");
        }
        self.failures = 0;
        let since = *self.empty_since.get_or_insert(now);
        if servers > 0 && self.times.keep_empty.is_some_and(|keep| now - since >= keep) {
            tracing::warn!(name, servers, "the name has had no records for long, the servers are removed");
            self.known.clear();
        }
        self.times.min_interval
    }

    /// Removes the addresses that answers have lacked for long.
    fn forget_absent(&mut self, endpoints: &[Endpoint], failed_hosts: &[Arc<str>], now: Duration) {
        self.known.retain(|address, known| {
            // Sorted, as `unique` leaves it.
            let is_present = endpoints.binary_search_by_key(address, |one| one.address).is_ok();
            if is_present || failed_hosts.contains(&known.endpoint.host) {
                return true;
            }
            let (since, answers) = known.absent.get_or_insert((now, 0));
            *answers += 1;
            *answers < ABSENT_ANSWERS || now - *since < self.times.keep_absent
        });
    }
}

#[cfg(test)]
mod tests;
