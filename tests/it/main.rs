//! Black-box tests, one module a hazard. Time is a paused or a manual clock, the connector a scripted one.

mod cancel;
mod config;
mod dials;
mod life;
mod line;
mod liveness;
mod ring;
mod support;
mod upkeep;
