//! A grant: the connection and the token that a waiter is served with.

use crate::connector::Connector;
use crate::raw::{Bucket, Receipt, Time};
use crate::server::Connection;
use crate::sync::Arc;

/// A connection for the front waiter, with its token.
pub(crate) struct Grant<C: Connector> {
    pub(crate) conn: Box<Connection<C>>,
    pub(crate) token: Token,
    /// It comes straight from its attempt, and needs no check.
    pub(crate) is_from_attempt: bool,
}

/// A taken token, which can be undone. Empty for a server without a rate limit.
#[derive(Debug)]
pub(crate) struct Token(Option<(Arc<Bucket>, Receipt)>);

impl Token {
    /// Takes a token of the bucket, if there is one, at a time. `None` if the server has a rate limit and no token.
    pub(crate) fn take(limit: Option<(Arc<Bucket>, Time)>) -> Option<Self> {
        let Some((bucket, now)) = limit else { return Some(Self(None)) };
        let receipt = bucket.take(now)?;
        Some(Self(Some((bucket, receipt))))
    }

    /// Gives the token back if none was taken since; otherwise it is forfeit.
    pub(crate) fn undo(self) {
        if let Some((bucket, receipt)) = self.0 {
            bucket.undo(receipt);
        }
    }
}
