//! The time in which the generations of a server pass connections on to each other.

use crate::close_reason::CloseReason;
use crate::sync::OnceLock;

/// Ends once: when the server is removed or reset, when its address or a tag changes, and when the runtime is shut
/// down. The connections that were opened in it close then.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    ended: OnceLock<CloseReason>,
}

impl Epoch {
    /// Ends it: its connections close for this reason. The list without its generations is published before.
    pub(crate) fn end(&self, why: CloseReason) {
        let ended_before = self.ended.set(why);
        debug_assert!(ended_before.is_ok(), "an epoch ended twice");
    }

    /// Why its connections close, if it is over.
    pub(crate) fn ended(&self) -> Option<CloseReason> {
        self.ended.get().copied()
    }
}
