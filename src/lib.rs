//! One lock-free connection pool over many servers, for any protocol.

mod acquire;
mod builder;
mod clock;
mod conn;
mod connect;
mod dial;
mod error;
mod pool;
mod raw;
mod reserve;
mod serve;
mod server;
mod settings;
mod status;
mod sync;
mod upkeep;
mod watch;

pub use crate::builder::Builder;
pub use crate::clock::Clock;
pub use crate::conn::PooledConn;
#[cfg(unix)]
pub use crate::connect::UnixConnector;
pub use crate::connect::{BoxConnector, BoxError, Connector, FnConnector, TcpConnector, connect_fn};
pub use crate::error::{
    AcquireError, BuildError, CloseTimeout, Counts, Failure, Reason, ServerError, ServerReport, TryAcquireError,
    Unavailable,
};
pub use crate::pool::Pool;
pub use crate::server::Server;
pub use crate::status::{PoolStatus, ServerState, ServerStatus};

#[cfg(feature = "test-util")]
pub mod test_util {
    //! A scripted connector, for tests of code that uses a pool. Feature `test-util`.

    pub use crate::connect::scripted::*;
}
