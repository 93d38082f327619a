//! What failed of a connect or of a connection.

use std::error::Error;
use std::time::Duration;

use crate::sync::Arc;

/// Why an attempt failed, or what took a server down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The connector returned an error.
    #[error("connect failed")]
    Connect(#[source] E),
    /// The connector did not return in time.
    #[error("connect timed out after {after:?}")]
    ConnectTimeout {
        /// The builder's `connect_timeout`.
        after: Duration,
    },
    /// A look-up of a [`TcpConnector`](crate::TcpConnector), also of one inside another connector, still ran when the
    /// connect timeout ended: tokio's blocking threads are busy, or the resolver does not answer. This is the client's
    /// own fault: it says nothing about the server, and connecting to it pauses.
    #[error("look-up of {host:?} timed out after {after:?}")]
    LookUpTimeout {
        /// The name that was looked up.
        host: Arc<str>,
        /// The builder's `connect_timeout`.
        after: Duration,
    },
    /// The connector panicked.
    #[error("the connector panicked")]
    ConnectPanicked,
    /// The connection was not reusable right after its connect: the server closed it, or sent what it should not.
    #[error("the connection was closed right after its connect")]
    ClosedAtOnce,
    /// A caller reported a failure, for instance by [`PooledConn::fail`](crate::PooledConn::fail). The source is the
    /// text of its reason.
    #[error("a caller reported a failure")]
    Reported(#[source] Box<dyn Error + Send + Sync>),
    /// The connector's [`recycle`](crate::Connector::recycle) returned an error.
    #[error("recycle failed")]
    Recycle(#[source] E),
    /// It did not return in time.
    #[error("recycle timed out after {after:?}")]
    RecycleTimeout {
        /// The builder's `connect_timeout`.
        after: Duration,
    },
    /// A caller dropped its connection after the builder's `abandoned_after`, and the server has answered nothing
    /// since the checkout.
    #[error("a caller dropped its connection after {after:?} without an answer")]
    Unanswered {
        /// How long the caller had the connection.
        after: Duration,
    },
    /// The connector's [`check`](crate::Connector::check) of an idle connection did not return in time.
    #[error("check of an idle connection timed out after {after:?}")]
    CheckTimeout {
        /// The builder's `connect_timeout`.
        after: Duration,
    },
}

impl<E> Failure<E> {
    /// Whether it is one of a connect, not one of a connection in use.
    pub(crate) fn is_of_connect(&self) -> bool {
        let is_of_use = matches!(self, Self::Reported(_) | Self::Recycle(_) | Self::RecycleTimeout { .. });
        !is_of_use && !matches!(self, Self::Unanswered { .. } | Self::CheckTimeout { .. })
    }
}
