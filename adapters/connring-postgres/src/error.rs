//! Why a connection could not be opened, checked or recycled.

use std::io;

use tokio_postgres::error::SqlState;

use crate::TargetRole;

/// Why a connection could not be opened, checked or recycled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name was not found, or no address could be connected to.
    #[error("tcp connect failed")]
    Tcp(#[source] io::Error),
    /// The TLS connector refused the name of the server.
    #[error("tls connector failed")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server refused, or the connection failed.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// The server has another role.
    #[error("the server is not a {wanted:?}")]
    Role {
        /// The role that was asked for.
        wanted: TargetRole,
    },
    /// The request of a dropped connection was to be cancelled, and the server did not answer in 1 s.
    #[error("no answer to a cancel request in 1 s")]
    Cancel,
}

impl Error {
    /// Whether the server works and refuses what it was asked for: a login (class 28 of SQLSTATE), a database (3D), a
    /// privilege or a setting (42, 22); or whether the server wants a password, and there is none.
    pub(crate) fn is_of_the_client(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let class = error.code().map(SqlState::code).and_then(|code| code.get(..2));
        match class {
            Some(class) => matches!(class, "22" | "28" | "3D" | "42"),
            // tokio-postgres tells it by its text alone.
            None => error.to_string() == "invalid configuration",
        }
    }
}
