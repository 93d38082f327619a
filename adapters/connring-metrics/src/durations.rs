//! An observer that feeds the histograms of the core's table.

use std::error::Error;
use std::time::Duration;

use connring::metrics::{METRICS, Metric};
use connring::{CloseReason, Observer, Server, WaitOutcome};

/// One histogram of a metrics system.
pub(crate) trait Record: Send + Sync + 'static {
    /// Records a duration with the values of the attributes that the metric has in the table.
    fn record(&self, took: Duration, server: Option<&Server>, attribute: Option<&'static str>);
}

/// The histograms, by the method of [`Observer`] that hears their values.
#[derive(Clone)]
pub(crate) struct Durations<R>(Vec<(&'static str, R)>);

impl<R: Record> Durations<R> {
    pub(crate) fn new(make: impl Fn(&'static Metric) -> R) -> Self {
        Self(METRICS.iter().filter_map(|metric| Some((metric.observer_method()?, make(metric)))).collect())
    }

    fn record(&self, method: &str, took: Duration, server: Option<&Server>, attribute: Option<&'static str>) {
        if let Some((_, histogram)) = self.0.iter().find(|(known, _)| *known == method) {
            histogram.record(took, server, attribute);
        }
    }
}

impl<R: Record> Observer for Durations<R> {
    fn connected(&self, server: &Server, took: Duration) {
        self.record("connected", took, Some(server), None);
    }

    fn connect_failed(&self, server: &Server, _: &(dyn Error + Send + Sync + 'static), took: Duration) {
        self.record("connect_failed", took, Some(server), None);
    }

    fn closed(&self, server: &Server, why: CloseReason, age: Duration, _: u64) {
        self.record("closed", age, Some(server), Some(why.name()));
    }

    fn waited(&self, took: Duration, outcome: WaitOutcome) {
        self.record("waited", took, None, Some(outcome.name()));
    }
}
