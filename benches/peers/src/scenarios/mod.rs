//! The scenarios, one file each. The function `run` of a scenario measures the contestants and prints the report.

pub mod blackhole;
pub mod contended;
pub mod crowd;
pub mod faults;
pub mod handoff;
pub mod hot;
pub mod memory;
pub mod rate;
pub mod redis;
pub mod ring;
pub mod service;
pub mod states;
mod world;
