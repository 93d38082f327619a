//! The switches of a run: which features of the plan a seed has at all.
//!
//! Swarm testing (Groce, Zhang, Eide, Chen, Regehr: "Swarm Testing", ISSTA 2012): each run omits a random part of all
//! features. A run that has all of them spends little on each, and one feature may suppress the states that another one
//! needs: a pool that is closed early never gets old, and a full wait queue hides an attempt that is missing.

use std::env;
use std::fmt;

use crate::caller::Call;
use crate::plan::stream;
use crate::rng::Rng;
use crate::weather::Mode;
use crate::world::Event;

/// Lists the features, each with the percentage of seeds that have it.
macro_rules! features {
    ($($(#[doc = $doc:literal])* $name:ident $percent:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Feature {
            $($(#[doc = $doc])* $name,)*
        }

        impl Feature {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            fn percent(self) -> u64 {
                match self {
                    $(Self::$name => $percent,)*
                }
            }
        }
    };
}

features! {
    /// Up to four servers; without it, one.
    SeveralServers 75,
    /// Each server allows one connection.
    OneConnection 25,
    RateLimits 50,
    /// More than one attempt at a time to connect to a server.
    ManyAttempts 60,
    /// A second server is tried while an attempt at the first one is under way; without it, only after that ended.
    Hedges 60,
    /// More than one failure takes a server down.
    Thresholds 40,
    /// At most two waiters.
    SmallQueue 25,
    /// `acquire` times out.
    WaitTimeout 50,
    IdleTimeout 35,
    Lifetime 35,
    Maintenance 60,
    /// The background task keeps connections idle.
    MinIdle 35,
    /// Idle connections are checked.
    IdleChecks 35,
    /// Ejections leave a part of the servers in use; without it, all but one may be ejected.
    EjectionCap 50,
    /// Reports eject nothing.
    NoEjections 15,
    /// A connection that is dropped after a long use without an answer counts as a failure.
    Abandoned 60,
    /// While no server serves, they are tried ahead of their time.
    OutageRetry 50,
    /// Callers do not wait while no server serves.
    FailFast 20,
    /// Servers refuse new connections.
    Refusals 50,
    /// Servers end the open connections.
    Deaths 50,
    /// Sometimes the client does not learn of a death.
    SilentDeaths 50,
    /// Servers swallow attempts and requests.
    Hangs 40,
    SlowConnects 50,
    SlowAnswers 50,
    /// Attempts fail by the client's own fault.
    LocalFaults 30,
    /// Servers fail a share of their requests at once.
    FailingRequests 40,
    /// Servers accept connections and answer nothing.
    Mute 40,
    /// Servers refuse more than a few connections.
    ServerLimits 40,
    /// Servers are registered and deregistered one at a time.
    Registrations 40,
    /// All servers are set at once.
    SetServers 40,
    /// The same servers are removed and registered with the same limits.
    Flaps 35,
    /// All connections of a server are closed by order.
    Resets 25,
    Acquire 75,
    AcquireTimeout 50,
    AcquireNow 50,
    TryAcquire 50,
    /// Callers give up after some time.
    Cancels 50,
    /// Callers give up at the moment at which they are woken.
    CancelsOnWake 40,
    LatePolls 40,
    Discards 50,
    Fails 50,
    Detaches 40,
    /// Callers leave in the middle of an answer.
    HalfAnswers 50,
    /// A request's timeout lies outside: its future is dropped with the connection, and nothing is reported.
    OutsideTimeouts 40,
    /// Callers call `broken` for a connection that turned out dead.
    Broken 40,
    ReportsSuccess 30,
    ReportsFailure 40,
    FailsFor 30,
    /// The pool is closed in the middle.
    ClosesEarly 15,
    /// The pool is closed at the end; without it, only dropped.
    Closes 50,
    /// Servers have weights, and the policy of load balancing changes at any time.
    Weights 40,
    /// `acquire_with`: callers avoid servers, prefer one, or want a new connection.
    Wishes 40,
    /// Servers are of up to three tiers, and callers may or may not use the next one where all servers of one are full.
    Tiers 40,
    /// Servers are disabled, with and without an end, and enabled.
    Disables 35,
    /// Servers are drained, and enabled.
    Drains 30,
    /// A connection is recycled after its use.
    Recycles 40,
    /// The connector closes connections after their use, although they were released.
    Unfit 25,
    /// The connector keeps connections that were dropped.
    KeepsDropped 35,
    /// The connector says goodbye.
    Goodbyes 45,
}

/// The features that [`Features::shown_by`] can find in a trace.
const SHOW: &[Feature] = &[
    Feature::Refusals,
    Feature::Deaths,
    Feature::SilentDeaths,
    Feature::Hangs,
    Feature::SlowConnects,
    Feature::SlowAnswers,
    Feature::LocalFaults,
    Feature::FailingRequests,
    Feature::Mute,
    Feature::ServerLimits,
    Feature::SetServers,
    Feature::Flaps,
    Feature::Resets,
    Feature::Acquire,
    Feature::AcquireTimeout,
    Feature::AcquireNow,
    Feature::TryAcquire,
    Feature::Cancels,
    Feature::CancelsOnWake,
    Feature::LatePolls,
    Feature::Discards,
    Feature::Fails,
    Feature::Detaches,
    Feature::HalfAnswers,
    Feature::OutsideTimeouts,
    Feature::Broken,
    Feature::ReportsSuccess,
    Feature::ReportsFailure,
    Feature::FailsFor,
    Feature::Weights,
    Feature::Wishes,
    Feature::Tiers,
    Feature::Disables,
    Feature::Drains,
    Feature::Recycles,
    Feature::Unfit,
    Feature::KeepsDropped,
    Feature::Goodbyes,
];

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features(u64);

const _: () = assert!(Feature::ALL.len() <= u64::BITS as usize);

impl Features {
    /// The features of a seed, without those that `SIM_WITHOUT` names. Each is drawn by itself.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, stream::FEATURES);
        let mut drawn = Self::default();
        for &feature in Feature::ALL {
            if rng.chance(feature.percent()) {
                drawn = drawn.with(feature);
            }
        }
        let features = drawn.without(&env::var("SIM_WITHOUT").unwrap_or_default());
        // A caller without any kind of call does nothing.
        let calls = [Feature::Acquire, Feature::AcquireTimeout, Feature::AcquireNow, Feature::TryAcquire];
        let has_calls = calls.iter().any(|&call| features.has(call));
        if has_calls { features } else { features.with(Feature::Acquire) }
    }

    pub(crate) fn all() -> Self {
        Feature::ALL.iter().fold(Self::default(), |all, &feature| all.with(feature))
    }

    pub(crate) fn has(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u32) != 0
    }

    fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// Without the features whose names are listed, with commas between them.
    fn without(self, names: &str) -> Self {
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).fold(self, |features, name| {
            let feature = Feature::ALL.iter().find(|feature| format!("{feature:?}") == name);
            let feature = *feature.unwrap_or_else(|| panic!("SIM_WITHOUT: {name} is no feature of {:?}", Feature::ALL));
            Self(features.0 & !(1 << feature as u32))
        })
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The features that are in `self` and not in `other`.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The features that an event shows to be on. Not all features have such an event.
    pub(crate) fn shown_by(event: &Event) -> Self {
        let feature = match event {
            Event::Server { becomes: Mode::Refuses, .. } => Feature::Refusals,
            Event::Server { becomes: Mode::Hangs, .. } => Feature::Hangs,
            Event::Server { becomes: Mode::Slow { connect_ms, answer_ms }, .. } => {
                let slow = |ms: u64, feature| if ms > 1 { Self::default().with(feature) } else { Self::default() };
                return slow(*connect_ms, Feature::SlowConnects).union(slow(*answer_ms, Feature::SlowAnswers));
            }
            Event::ServerDies { told_after_ms: None, .. } => {
                return Self::default().with(Feature::Deaths).with(Feature::SilentDeaths);
            }
            Event::ServerDies { .. } => Feature::Deaths,
            Event::OwnFaults { begin: true } => Feature::LocalFaults,
            Event::Server { becomes: Mode::Fails { .. }, .. } => Feature::FailingRequests,
            Event::Server { becomes: Mode::Mute, .. } => Feature::Mute,
            Event::Server { becomes: Mode::Limited { .. }, .. } => Feature::ServerLimits,
            Event::Lists { tier: 1.., .. } => Feature::Tiers,
            Event::SetsServers => Feature::SetServers,
            Event::SetsPolicy { .. } => Feature::Weights,
            Event::Calls { call: Call::With { .. }, .. } => Feature::Wishes,
            Event::Flaps { .. } => Feature::Flaps,
            Event::Resets { .. } => Feature::Resets,
            Event::Disables { .. } => Feature::Disables,
            Event::Drains { .. } => Feature::Drains,
            Event::Recycles { .. } => Feature::Recycles,
            Event::SaysGoodbye { .. } => Feature::Goodbyes,
            Event::Ends { how: "released unfit", .. } => Feature::Unfit,
            Event::Ends { how: "dropped and kept", .. } => Feature::KeepsDropped,
            Event::Calls { call: Call::Acquire, .. } => Feature::Acquire,
            Event::Calls { call: Call::AcquireTimeout { .. }, .. } => Feature::AcquireTimeout,
            Event::Calls { call: Call::AcquireNow, .. } => Feature::AcquireNow,
            Event::Calls { call: Call::TryAcquire, .. } => Feature::TryAcquire,
            Event::GivesUp { on_wake: false, .. } => Feature::Cancels,
            Event::GivesUp { on_wake: true, .. } => Feature::CancelsOnWake,
            Event::Stalls { .. } => Feature::LatePolls,
            Event::Ends { how: "discarded", .. } => Feature::Discards,
            Event::Ends { how: "failed", .. } => Feature::Fails,
            Event::Ends { how: "detached", .. } => Feature::Detaches,
            Event::Ends { how: "dropped with half an answer", .. } => Feature::HalfAnswers,
            Event::Ends { how: "dropped by a timeout outside", .. } => Feature::OutsideTimeouts,
            Event::Ends { how: "broken", .. } => Feature::Broken,
            Event::Ends { how: "failed for a time", .. } => Feature::FailsFor,
            Event::Reports { is_success: true, .. } => Feature::ReportsSuccess,
            Event::Reports { is_success: false, .. } => Feature::ReportsFailure,
            _ => return Self::default(),
        };
        Self::default().with(feature)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Feature::ALL.iter().filter(|&&feature| self.has(feature))).finish()
    }
}

/// The features of many runs.
#[derive(Default)]
pub(crate) struct Coverage {
    features: Vec<Features>,
    /// The features whose events occurred.
    shown: Features,
}

impl Coverage {
    pub(crate) fn add(&mut self, features: Features, shown: Features) {
        self.features.push(features);
        self.shown = self.shown.union(shown);
    }

    /// The pairs of features, and the single features, that no run had on or off in some combination; and the features
    /// that can show and never did.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for (index, &a) in Feature::ALL.iter().enumerate() {
            // A pair of a feature with itself is the feature alone.
            for &b in &Feature::ALL[index..] {
                for (a_on, b_on) in [(false, false), (false, true), (true, false), (true, true)] {
                    let occurs = self.features.iter().any(|run| run.has(a) == a_on && run.has(b) == b_on);
                    if !occurs && (a != b || a_on == b_on) {
                        gaps.push(format!("no run has {a:?} {a_on} and {b:?} {b_on}"));
                    }
                }
            }
        }
        let shown = Feature::ALL.iter().filter(|&&feature| SHOW.contains(&feature) && !self.shown.has(feature));
        gaps.extend(shown.map(|feature| format!("{feature:?} never showed")));
        gaps
    }
}

/// The number of runs with each feature.
impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = |feature| self.features.iter().filter(|run| run.has(feature)).count();
        f.debug_map().entries(Feature::ALL.iter().map(|&feature| (feature, runs(feature)))).finish()
    }
}
