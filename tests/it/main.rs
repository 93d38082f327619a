//! Black-box tests, one module a hazard. Time is a paused or a manual clock, the connector a scripted one.

mod dials;
mod line;
mod ring;
mod support;
