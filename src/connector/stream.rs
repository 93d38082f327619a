//! Whether a stream with a layer in between is idle.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::unconstrained;

/// Whether a stream has nothing to read and is open: it is idle, and may be used again.
///
/// For the [`is_reusable`](crate::Connector::is_reusable) of a connector whose streams have a layer above the socket,
/// such as TLS or compression; [`TcpConnector`](crate::TcpConnector) and [`UnixConnector`](crate::UnixConnector) do
/// without it. A peek at the socket below would call a good stream of TLS 1.3 unfit: the session tickets that its
/// server sends after the handshake lie there until the layer reads them. This function reads through the layer.
///
/// It polls one read of a byte, with a waker that does nothing, outside tokio's budget of the task: a task that has
/// used up its budget would find each stream idle. A read that is pending means idle. An end of file, an error and a
/// byte each mean that the stream is of no use: close it, since that byte is lost. It costs what a read costs: no
/// system call while tokio's reactor has delivered nothing since the last read that was pending.
///
/// The stream must not be read elsewhere at the same time: the task that waits for it would not be woken any more.
///
/// # Race window
///
/// The other side may close the stream, or its close may be on the way to this host, right after it was found idle.
///
/// # Panics
///
/// A panic of the stream's `poll_read` goes on to the caller.
///
/// # Examples
///
/// A connector of streams that decompress, here only buffered:
///
/// ```
/// use std::io;
///
/// use connring::{ConnInfo, Connector, Server, TcpConnector, is_idle};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
/// use tokio::net::TcpStream;
///
/// struct Buffered(TcpConnector);
///
/// impl Connector for Buffered {
///     type Conn = BufStream<TcpStream>;
///     type Error = io::Error;
///
///     async fn connect(&self, server: &Server) -> io::Result<BufStream<TcpStream>> {
///         self.0.connect(server).await.map(BufStream::new)
///     }
///
///     fn is_reusable(&self, conn: &mut BufStream<TcpStream>, _: &ConnInfo) -> bool {
///         is_idle(conn)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let mut conn = Buffered(TcpConnector::new()).connect(&Server::from(listener.local_addr()?)).await?;
/// let (mut far, _) = listener.accept().await?;
/// assert!(is_idle(&mut conn));
///
/// // Half of this answer stays in the buffer, where no look at the socket would find it.
/// far.write_all(b"late answer").await?;
/// conn.read_exact(&mut [0; 5]).await?;
/// assert!(!is_idle(&mut conn));
/// # Ok(())
/// # }
/// ```
pub fn is_idle<S: AsyncRead + Unpin + ?Sized>(stream: &mut S) -> bool {
    let mut byte = [0];
    let mut read = ReadBuf::new(&mut byte);
    let mut stream = Pin::new(stream);
    let reading = pin!(unconstrained(poll_fn(|cx| AsyncRead::poll_read(stream.as_mut(), cx, &mut read))));
    reading.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, duplex};
    use tokio::task::coop::consume_budget;

    use super::*;

    #[tokio::test]
    async fn stream_is_idle_while_it_is_open_and_has_nothing_to_read() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = BufReader::new(ours);
        assert!(is_idle(&mut ours));
        assert!(is_idle(&mut ours), "a look changes nothing");
        theirs.write_all(b"pong").await.unwrap();
        ours.read_exact(&mut [0; 4]).await.unwrap();
        assert!(is_idle(&mut ours));
        theirs.write_all(b"pongpong").await.unwrap();
        ours.read_exact(&mut [0; 4]).await.unwrap();
        assert!(!is_idle(&mut ours), "the rest is in the buffer");
        let (mut ours, theirs) = duplex(64);
        drop(theirs);
        assert!(!is_idle(&mut ours), "an end of file");
        let object: &mut (dyn AsyncRead + Unpin) = &mut ours;
        assert!(!is_idle(object));
    }

    #[tokio::test]
    async fn task_without_budget_sees_what_there_is_to_read() {
        let (mut ours, mut theirs) = duplex(64);
        theirs.write_all(b"late answer").await.unwrap();
        poll_fn(|cx| {
            while pin!(consume_budget()).poll(cx).is_ready() {}
            let mut byte = [0];
            let read = Pin::new(&mut ours).poll_read(cx, &mut ReadBuf::new(&mut byte));
            assert!(read.is_pending(), "there is budget left: this tests nothing");
            assert!(!is_idle(&mut ours));
            std::task::Poll::Ready(())
        })
        .await;
    }

    #[test]
    fn no_runtime_is_needed() {
        let (mut ours, theirs) = duplex(64);
        assert!(is_idle(&mut ours));
        drop(theirs);
        assert!(!is_idle(&mut ours));
    }
}
