//! Names for the types of a pool whose connector is boxed.

use crate::conn::PooledConn;
use crate::connector::BoxConnector;
use crate::pool::Pool;

/// A [`Pool`] of connections `Conn`, whatever its connector: a type to name in a struct.
///
/// The connector is boxed by [`Connector::boxed`](crate::Connector::boxed).
///
/// # Examples
///
/// ```
/// use std::io;
///
/// use connring::{BoxConn, BoxPool, Connector, Pool, Server, connect_fn};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
///
/// /// A client of the echo servers.
/// struct Client {
///     pool: BoxPool<DuplexStream>,
/// }
///
/// /// A connection that one caller has to itself for several requests.
/// struct Session {
///     conn: BoxConn<DuplexStream>,
/// }
///
/// impl Client {
///     async fn session(&self) -> io::Result<Session> {
///         Ok(Session { conn: self.pool.acquire().await.map_err(io::Error::other)? })
///     }
/// }
///
/// impl Session {
///     async fn echo(&mut self, byte: u8) -> io::Result<u8> {
///         self.conn.write_u8(byte).await?;
///         self.conn.read_u8().await
///     }
///
///     fn end(self) {
///         self.conn.release();
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = connect_fn(|_: Server| async {
///     let (near, far) = tokio::io::duplex(64);
///     # tokio::spawn(async move {
///     #     let (mut reader, mut writer) = tokio::io::split(far);
///     #     tokio::io::copy(&mut reader, &mut writer).await
///     # });
///     io::Result::Ok(near)
/// });
/// let client = Client { pool: Pool::builder(connector.boxed()).server("a").build()? };
/// let mut session = client.session().await?;
/// assert_eq!(session.echo(7).await?, 7);
/// session.end();
/// # Ok(())
/// # }
/// ```
pub type BoxPool<Conn> = Pool<BoxConnector<Conn>>;

/// A connection of a [`BoxPool`], which has an example.
pub type BoxConn<Conn> = PooledConn<BoxConnector<Conn>>;
