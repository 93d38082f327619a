//! Cancels the running request of a connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::CancelToken;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use crate::Error;
use crate::socket::Socket;

/// How long a request that was cut short may take to end by itself before it is cancelled.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// How long the server may take.
const LONGEST_CANCEL: Duration = Duration::from_secs(1);

/// Where a connection leads: the address, and the name for TLS.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) peer: SocketAddr,
    pub(crate) name: Box<str>,
}

/// Cancels the running request. When this returns, the server has signalled its process: the signal finds an earlier
/// request or none, but no request that is sent from now on.
///
/// # Errors
///
/// When the server cannot be connected to, or does not answer in 1 s.
pub(crate) async fn cancel<T>(place: Place, mut tls: T, token: CancelToken) -> Result<(), Error>
where
    T: MakeTlsConnect<Socket>,
    T::TlsConnect: TlsConnect<Socket>,
{
    let cancelling = async {
        let tls = tls.make_tls_connect(&place.name).map_err(|error| Error::Tls(error.into()))?;
        let socket = Socket::new(TcpStream::connect(place.peer).await.map_err(Error::Tcp)?);
        token.cancel_query_raw(socket.share(), tls).await?;
        // The server closes after it has sent the signal. A process that waits for a request ignores it.
        socket.closed().await;
        Ok(())
    };
    timeout(LONGEST_CANCEL, cancelling).await.unwrap_or(Err(Error::Cancel))
}
