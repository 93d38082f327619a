#![doc = include_str!("../README.md")]

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod durations;
#[cfg(feature = "metrics")]
pub mod facade;
#[cfg(feature = "opentelemetry")]
pub mod otel;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod uses;

#[cfg(feature = "metrics")]
pub use metrics;
#[cfg(feature = "opentelemetry")]
pub use opentelemetry;

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
pub use self::uses::{Timed, UseTimes};

/// The upper bounds of the buckets of all histograms, in seconds: from a connect in a local network to the age of an
/// old connection. A meter is told of them; tell the exporter of the facade.
pub const BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 3600.0];
