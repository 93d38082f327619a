//! When callers' reports take a server out of use.

use std::time::Duration;

use crate::error::BuildError;
use crate::range::{check, check_longest};

/// When reported failures take a server out of use, for how long, and of how many servers at most.
///
/// A server is ejected after [`consecutive_failures`](Self::consecutive_failures) reports in a row
/// ([`report_failure`](crate::PooledConn::report_failure), [`fail`](crate::PooledConn::fail), abandoned requests), all
/// within 10 s: a report later than 10 s after the first of the count starts it anew, as does a good return. While the
/// server recovers, one report is enough.
///
/// With [`failure_ratio`](Self::failure_ratio) it is also ejected for failures that come between good returns.
///
/// The k-th ejection lasts min([`base`](Self::base) × 1.5ᵏ⁻¹, [`max`](Self::max)), plus or minus 50 %; k falls by one
/// for each 10 s that the server has served since its last ejection, to which time while it is
/// [disabled](crate::Pool::disable) or removed does not add. Afterwards one connect attempt with the connector's
/// [`check`](crate::Connector::check) decides whether it serves again. The scheme is Envoy's outlier detection with a
/// memory that fades.
///
/// An ejection is refused if no server would serve afterwards, or, while no worse [tier](crate::Server::tier) serves,
/// if fewer than 1 − [`max_ejected_ratio`](Self::max_ejected_ratio) of the servers of its tier would. Servers that are
/// down because connecting failed, or disabled, count among the ejected there; a disabled server is ejected within the
/// same bound. When no server serves any more, all ejections end.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::{Ejection, Pool, TcpConnector};
///
/// # fn main() -> Result<(), connring::BuildError> {
/// let pool = Pool::builder(TcpConnector::new())
///     .ejection(Ejection::new().consecutive_failures(3).base(Duration::from_secs(5)))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Ejection {
    pub(crate) consecutive_failures: u32,
    pub(crate) failure_ratio: Option<f64>,
    pub(crate) min_results: u32,
    pub(crate) max_ejected_ratio: f64,
    pub(crate) base: Duration,
    pub(crate) max: Duration,
    pub(crate) enforce: bool,
}

/// The factor by which each ejection in a row is longer.
const GROWTH: f64 = 1.5;
/// The spread of an ejection.
const SPREAD_RATIO: f64 = 0.5;

impl Ejection {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            consecutive_failures: 5,
            failure_ratio: None,
            min_results: 10,
            max_ejected_ratio: 0.5,
            base: Duration::from_secs(1),
            max: Duration::from_secs(30),
            enforce: true,
        }
    }

    /// How many reported failures in a row eject a server. Default: 5. Range: 1 to 524 287.
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Ejects a server if at least this part of its results of the last 10 s were failures, where there were at least
    /// [`min_results`](Self::min_results): for a server that fails often, but hardly ever many times in a row. Default
    /// (`None`): no part does. Range: 0.001 to 1.0.
    ///
    /// The background task looks once a second, so it needs the builder's `maintenance`. Results are the
    /// [`Totals::successes`](crate::Totals::successes) and [`failures`](crate::Totals::failures) since the server last
    /// went down, without the failures of connections from before that. After an ejection, also one that is refused or
    /// not enforced, the count starts anew. A server that is removed and registered again goes on with its results
    /// where it is still [remembered](crate::Pool::register).
    pub fn failure_ratio(mut self, ratio: impl Into<Option<f64>>) -> Self {
        self.failure_ratio = ratio.into();
        self
    }

    /// How many results in 10 s [`failure_ratio`](Self::failure_ratio) needs. Default: 10. Range: at least 1.
    pub fn min_results(mut self, results: u32) -> Self {
        self.min_results = results;
        self
    }

    /// The largest part of the servers of a tier that ejections may leave out of use while no worse tier serves.
    /// Default: 0.5. Range: 0.0 to 1.0.
    pub fn max_ejected_ratio(mut self, ratio: f64) -> Self {
        self.max_ejected_ratio = ratio;
        self
    }

    /// How long the first ejection lasts. Default: 1 s. Range: 1 ms to 365 days.
    pub fn base(mut self, duration: Duration) -> Self {
        self.base = duration;
        self
    }

    /// How long an ejection lasts at most. Default: 30 s. Range: `base` to 365 days.
    pub fn max(mut self, duration: Duration) -> Self {
        self.max = duration;
        self
    }

    /// Whether servers are ejected. If not, failures are counted and each ejection that would come is an event, but
    /// nothing changes: to try settings in production. Default: on.
    pub fn enforce(mut self, on: bool) -> Self {
        self.enforce = on;
        self
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        const MOST_FAILURES: u32 = (1 << 19) - 1;
        let Self { consecutive_failures, failure_ratio, min_results, max_ejected_ratio, base, max, enforce: _ } = self;
        check("ejection_consecutive_failures", *consecutive_failures, 1..=MOST_FAILURES)?;
        check("ejection_failure_ratio", failure_ratio.unwrap_or(1.0), 0.001..=1.0)?;
        check("ejection_min_results", *min_results, 1..=u32::MAX)?;
        check("ejection_max_ejected_ratio", *max_ejected_ratio, 0.0..=1.0)?;
        check_longest(("ejection_base", *base), ("ejection_max", *max))
    }

    /// How long the k-th ejection in a row lasts. `draw` is uniform in `0.0..1.0`.
    pub(crate) fn duration(&self, k: u32, draw: f64) -> Duration {
        let longest = self.max.as_secs_f64();
        let seconds = (self.base.as_secs_f64() * GROWTH.powi(k.saturating_sub(1).min(511) as i32)).min(longest);
        Duration::from_secs_f64(seconds * (1.0 + SPREAD_RATIO * (2.0 * draw - 1.0)))
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Ejection;

    #[test]
    fn ejections_grow_to_their_maximum_and_spread() {
        let ejection = Ejection::new();
        let seconds = |k, draw| ejection.duration(k, draw).as_secs_f64();
        assert_eq!([1, 2, 3, 100].map(|k| seconds(k, 0.5)), [1.0, 1.5, 2.25, 30.0]);
        assert_eq!([seconds(1, 0.0), seconds(1, 1.0)], [0.5, 1.5]);
    }
}
