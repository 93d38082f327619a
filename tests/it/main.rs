//! Black-box tests, one module per hazard, on a paused or manual clock and with a scripted connector; some
//! on real sockets.

mod attempts;
mod calls;
mod cancel;
mod choosing;
mod config;
mod connector;
#[allow(clippy::disallowed_methods, reason = "these tests run on paused time, which tokio reads")]
mod faults;
mod file;
mod flags;
mod hazards;
mod health;
mod hooks;
mod info;
mod life;
mod limits;
mod liveness;
mod maintenance;
mod metrics;
mod observer;
mod races;
mod rate;
mod rotation;
mod support;
mod threads;
mod totals;
mod wait_queue;
mod wake_ups;
