//! The servers of a pool: the list, its changes, the rotation, and the list that each thread keeps.

mod cache;
mod list;
mod rotation;
mod set;
mod shard;
mod tiers;

pub(crate) use self::cache::{drop_closed_lists, with_any};
pub(crate) use self::list::{List, ListEntry, Usable};
pub(crate) use self::rotation::{GOLDEN, Rotation, mix};
pub(crate) use self::set::{Change, MAX_DEFAULT_IDLE, Servers, TurnsUpkeep};
#[cfg(feature = "test-util")]
pub use self::shard::set_shard;
pub(crate) use self::shard::{MAX_SHARDS, thread_number};
