//! Why a connection could not be opened, checked or reset.

use std::io;

use redis::RedisError;

/// Why a [`RedisConnector`](crate::RedisConnector) could not open, check or reset a connection. `E` is the error of the
/// connector that opens the streams.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E = io::Error> {
    /// The stream could not be opened.
    #[error("cannot connect")]
    Connect(#[source] E),
    /// The server answered a command with an error: `-WRONGPASS` to `AUTH`, `-LOADING` to `PING`, or
    /// `-ERR max number of clients reached`.
    #[error("{command} was answered with an error")]
    Answer {
        /// The command, without its arguments. A server that refuses the connection answers the first one.
        command: &'static str,
        /// The answer.
        #[source]
        error: RedisError,
    },
    /// The connection failed before all answers had come.
    #[error("no answer to {command}")]
    NoAnswer {
        /// The first command that was sent, without its arguments.
        command: &'static str,
        /// The failure.
        #[source]
        error: RedisError,
    },
}
