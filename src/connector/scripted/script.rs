//! The script: how attempts and hooks end, for each address.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::time::Duration;

use super::tally::Tally;
use crate::clock::Clock;
use crate::connector::{AfterUse, CloseReason, Ended};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// How one attempt ends. It is chosen when the future of the attempt is first polled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connect {
    /// It succeeds at once.
    Ok,
    /// It fails at once, by the server's fault.
    Refuse,
    /// It fails at once, by the client's own fault.
    LocalFault,
    /// It succeeds after this time.
    Slow(Duration),
    /// It fails after this time, by the server's fault.
    SlowRefuse(Duration),
    /// It never ends.
    Never,
    /// It panics at once.
    Panic,
}

/// The result of `is_reusable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reuse {
    /// The connection is reusable, unless it was killed.
    Yes,
    /// The connection is not reusable.
    No,
    /// `is_reusable` panics.
    Panic,
}

/// How a check, a recycling or a goodbye ends. It is chosen when the future is first polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoundTrip {
    /// It succeeds at once, unless the connection was killed.
    Ok,
    /// It fails at once.
    Fail,
    /// It succeeds after this time, unless the connection was killed.
    Slow(Duration),
    /// It never ends.
    Never,
    /// It panics at once.
    Panic,
}

impl RoundTrip {
    /// Takes its time, and returns whether it succeeds.
    pub(in crate::connector) async fn play(self, clock: &Clock, what: &str) -> bool {
        match self {
            Self::Ok => {}
            Self::Fail => return false,
            Self::Slow(after) => clock.sleep_until(clock.now().saturating_add(after)).await,
            Self::Never => pending().await,
            Self::Panic => panic!("the {what} panics, as scripted"),
        }
        true
    }
}

pub(super) struct Script {
    pub(super) default: Connect,
    pub(super) addresses: HashMap<Arc<str>, Lines>,
    pub(super) log: Vec<(Arc<str>, Duration)>,
}

/// The script of one address.
pub(super) struct Lines {
    pub(super) target: Arc<Target>,
    /// One attempt each.
    pub(super) next: VecDeque<Connect>,
    /// Each attempt after those.
    pub(super) from_then_on: Option<Connect>,
    pub(super) check: RoundTrip,
    pub(super) recycle: RoundTrip,
    /// How a goodbye ends, if one is said.
    pub(super) close: Option<RoundTrip>,
    /// Why `close` was asked.
    pub(super) closes: Vec<CloseReason>,
}

/// The state that the connections of one address share, without a lock.
pub(super) struct Target {
    pub(super) address: Arc<str>,
    pub(super) tally: Tally,
    /// A [`Reuse`].
    pub(super) reuse: AtomicU64,
    /// An [`AfterUse`] for each [`Ended`].
    pub(super) after_use: [AtomicU64; 2],
    /// How often its connections were killed.
    pub(super) kills: AtomicU64,
    pub(super) drop_panics: AtomicBool,
}

impl Script {
    pub(super) fn lines(&mut self, address: &str) -> &mut Lines {
        if !self.addresses.contains_key(address) {
            let address: Arc<str> = Arc::from(address);
            self.addresses.insert(address.clone(), Lines::new(address));
        }
        self.addresses.get_mut(address).expect("it is there, or was put there above")
    }
}

impl Lines {
    fn new(address: Arc<str>) -> Self {
        let target = Target {
            address,
            tally: Tally::default(),
            reuse: AtomicU64::new(Reuse::Yes as u64),
            after_use: [Ended::Released, Ended::Dropped].map(|ended| AtomicU64::new(AfterUse::of(ended) as u64)),
            kills: AtomicU64::new(0),
            drop_panics: AtomicBool::new(false),
        };
        Self {
            target: Arc::new(target),
            next: VecDeque::new(),
            from_then_on: None,
            check: RoundTrip::Ok,
            recycle: RoundTrip::Ok,
            close: None,
            closes: Vec::new(),
        }
    }
}

impl Target {
    /// Counts a call of `is_reusable`, and whether the script allows a reuse.
    pub(super) fn may_reuse(&self) -> bool {
        self.tally.reuse_checks.fetch_add(1, Ordering::Relaxed);
        let reuse = self.reuse.load(Ordering::Relaxed);
        assert!(reuse != Reuse::Panic as u64, "`is_reusable` of {} panics, as scripted", self.address);
        reuse == Reuse::Yes as u64
    }

    /// Counts a call of `after_use`, and how the script answers.
    pub(super) fn after_use(&self, ended: Ended) -> AfterUse {
        self.tally.after_uses.fetch_add(1, Ordering::Relaxed);
        let answer = self.after_use[ended as usize].load(Ordering::Relaxed);
        let answers = [AfterUse::Reuse, AfterUse::Recycle, AfterUse::Close];
        answers.into_iter().find(|possible| *possible as u64 == answer).expect("one of them was stored")
    }
}
