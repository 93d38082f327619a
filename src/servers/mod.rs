//! The servers of a pool: the published list, its changes, the order in which servers are tried, and what each thread
//! keeps of the list.

mod cache;
mod list;
mod rotation;
mod set;
mod shard;

pub(crate) use self::cache::{let_go_of_closed, with_any};
pub(crate) use self::list::{List, Seat};
pub(crate) use self::rotation::Rotation;
pub(crate) use self::set::{Change, Servers};
#[cfg(feature = "test-util")]
pub use self::shard::set_shard;
pub(crate) use self::shard::{MAX_SHARDS, near};
