//! The errors of a connect attempt, of a request and of the body of a response.

use std::error::Error;
use std::time::Duration;

use connring::AcquireError;
use http::StatusCode;

/// Why an attempt to connect, or the check of a connection, failed. `E` is the error of the connector below.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError<E: Error + 'static> {
    /// The connector below failed.
    #[error(transparent)]
    Connect(E),
    /// The server's tag `host`, or its address, is no value of a header.
    #[error("{value:?} is no value of a Host header")]
    Host {
        /// The value.
        value: String,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Http(#[source] hyper::Error),
    /// The answer to the check says that the server cannot serve.
    #[error("the check was answered with {status}")]
    Check {
        /// Its status, 500 or above.
        status: StatusCode,
    },
}

/// Why a request got no response. `E` is the connector's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<E: Error + 'static> {
    /// There was no connection. Nothing was sent.
    #[error(transparent)]
    Acquire(AcquireError<E>),
    /// The request cannot be sent, or its body failed. The server is not to blame.
    #[error("the request is at fault")]
    Request(#[source] hyper::Error),
    /// The connection broke before the head of the response was read.
    #[error("the connection to {server} broke before the response")]
    Broken {
        /// The server's name.
        server: String,
        /// Whether the server may have closed the connection while it was idle: a request that is safe to send twice
        /// is worth another try. Otherwise the connection was new, and a failure of the server was counted.
        reused: bool,
        /// Whether the request is known not to have been sent. Then any request is safe to send again.
        unsent: bool,
        /// What hyper says.
        #[source]
        error: hyper::Error,
    },
    /// The head of the response did not come in time. A failure of the server was counted.
    #[error("{server} sent no response in {after:?}")]
    Timeout {
        /// The server's name.
        server: String,
        /// The client's [`head_timeout`](crate::HttpClient::head_timeout).
        after: Duration,
    },
    /// The body of the request had no next part in time. The server is not to blame.
    #[error("the body of the request stalled for {after:?}")]
    Stalled {
        /// The client's [`head_timeout`](crate::HttpClient::head_timeout).
        after: Duration,
    },
}

impl<E: Error + 'static> SendError<E> {
    /// The server that was asked, if one was: to [avoid](connring::AcquireOptions::avoid) it in the next try.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Broken { server, .. } | Self::Timeout { server, .. } => Some(server),
            Self::Acquire(_) | Self::Request(_) | Self::Stalled { .. } => None,
        }
    }
}

/// Why the body of a response has no end. Its connection is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It broke off.
    #[error("the response broke off")]
    Broken(#[source] hyper::Error),
    /// Its next part did not come in time. A failure of the server was counted, unless the response had gone on before.
    #[error("{server} sent nothing more of its response in {after:?}")]
    Timeout {
        /// The server's name.
        server: String,
        /// The client's [`body_timeout`](crate::HttpClient::body_timeout).
        after: Duration,
    },
    /// Its next part did not come in time, nor did that of the request, whose body the server was still to get. The
    /// server is not to blame.
    #[error("the body of the request stalled for {after:?}")]
    Stalled {
        /// The client's [`body_timeout`](crate::HttpClient::body_timeout).
        after: Duration,
    },
}
