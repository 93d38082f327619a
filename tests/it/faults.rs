//! Faults as services meet them, most of them from public reports about other pools: what the pool must do, played on
//! paused time against servers that fail in one way each.

mod callers;
mod connects;
mod limits;
mod outages;
mod stalls;
mod world;
