#![doc = include_str!("operators.md")]
#![doc = include_str!("../docs/health.svg")]
