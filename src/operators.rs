#![doc = include_str!("operators.md")]
// A blank line: HTML may not follow a paragraph at once.
#![doc = ""]
#![doc = include_str!("../docs/health.svg")]
