//! The script: how attempts at each address end.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::tally::Tally;
use crate::sync::{Arc, AtomicBool, AtomicU64};

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

/// How a check ends. It is chosen when the future of the check is first polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// It succeeds at once, unless the connection was killed.
    Ok,
    /// It fails at once.
    Fail,
    /// It never ends.
    Never,
    /// It panics at once.
    Panic,
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
}

/// The state that the connections of one address share, without a lock.
pub(super) struct Target {
    pub(super) address: Arc<str>,
    pub(super) tally: Tally,
    /// A [`Reuse`].
    pub(super) reuse: AtomicU64,
    /// A [`Check`].
    pub(super) check: AtomicU64,
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
            check: AtomicU64::new(Check::Ok as u64),
            kills: AtomicU64::new(0),
            drop_panics: AtomicBool::new(false),
        };
        Self { target: Arc::new(target), next: VecDeque::new(), from_then_on: None }
    }
}
