//! Black-box tests, one module a hazard. Time is a paused or a manual clock, the connector a scripted one.

mod cancel;
mod config;
mod dials;
mod forgotten;
mod hazards;
mod health;
mod info;
mod life;
mod limits;
mod line;
mod liveness;
mod races;
mod rate;
mod ring;
mod support;
mod threads;
mod upkeep;
