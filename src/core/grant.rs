//! What a waiter is served with.

use crate::connector::Connector;
use crate::raw::{Bucket, Receipt};
use crate::server::Connection;
use crate::sync::Arc;

/// A connection for the front waiter, with its token.
pub(crate) struct Grant<C: Connector> {
    pub(crate) conn: Box<Connection<C>>,
    pub(crate) token: Option<Token>,
    /// Straight from its attempt: it need not be checked.
    pub(crate) fresh: bool,
}

/// A token that was taken and can be undone.
#[derive(Debug)]
pub(crate) struct Token {
    bucket: Arc<Bucket>,
    receipt: Receipt,
}

impl Token {
    /// Takes a token, if there is one. `Some(None)`: the server has no rate limit.
    pub(crate) fn take(bucket: Option<&Arc<Bucket>>, now_ns: u64) -> Option<Option<Self>> {
        match bucket {
            None => Some(None),
            Some(bucket) => {
                let receipt = bucket.take(now_ns)?;
                Some(Some(Self { bucket: Arc::clone(bucket), receipt }))
            }
        }
    }

    /// Returns it if no other token was taken since; otherwise it is forfeit.
    pub(crate) fn undo(self) {
        self.bucket.undo(self.receipt);
    }
}
