//! What is measured, one file each. Each has one function `run`, which prints its report.

pub mod hot;
