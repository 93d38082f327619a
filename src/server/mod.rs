//! One server: its state, its generations of idle queues, its connections with their records and permits.

mod config;
mod connection;
mod epoch;
mod events;
mod generation;
mod idle_history;
mod notifier;
mod permit;
mod recent_results;
mod record;
mod totals;
mod weight;

pub(crate) use self::config::{Limits, PoolLimits};
pub use self::config::{Server, TLS_SERVER_NAME};
pub(crate) use self::connection::{ConnRecord, Connection};
pub(crate) use self::epoch::Epoch;
pub(crate) use self::events::chain;
pub(crate) use self::generation::Generation;
pub(crate) use self::notifier::{Notifier, quietly, wait_until};
pub(crate) use self::permit::ConnectPermit;
pub(crate) use self::recent_results::Results;
pub(crate) use self::record::ServerRecord;
pub(crate) use self::totals::{Total, Totals, Waits};
pub(crate) use self::weight::Weight;
