//! What is measured, one file each. Each has one function `run`, which prints its report.

pub mod blackhole;
pub mod contended;
pub mod crowd;
pub mod handoff;
pub mod hot;
pub mod memory;
pub mod rate;
pub mod redis;
pub mod ring;
pub mod states;
