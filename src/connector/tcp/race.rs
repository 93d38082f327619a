//! A race of the addresses of a name: the next one starts when one failed, or is slow.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::connector::ConnectFault;

/// How long an attempt goes on alone before the next address is tried beside it (RFC 8305 recommends 250 ms).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of `addresses`, which `host` resolved to, that answers: "Happy Eyeballs" (RFC 8305) without
/// its sorting.
///
/// # Cancel safety
///
/// Dropping it drops every attempt under way.
///
/// # Errors
///
/// When there is no address, or every attempt failed.
pub(super) async fn connect_any<T, Fut>(
    host: &str,
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> Fut,
) -> io::Result<T>
where
    Fut: Future<Output = io::Result<T>>,
{
    let mut addresses = addresses.into_iter();
    let mut attempts: Vec<Pin<Box<Fut>>> = Vec::new();
    let mut failure: Option<io::Error> = None;
    // Runs only while there is an address to start next.
    let mut delay: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        loop {
            let mut failed = false;
            let mut index = 0;
            while let Some(attempt) = attempts.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(conn)) => return Poll::Ready(Ok(conn)),
                    Poll::Ready(Err(error)) => {
                        drop(attempts.remove(index));
                        failure = Some(weightier(failure.take(), error));
                        failed = true;
                    }
                }
            }
            let due =
                attempts.is_empty() || failed || delay.as_mut().is_some_and(|delay| delay.as_mut().poll(cx).is_ready());
            if !due {
                return Poll::Pending;
            }
            match addresses.next() {
                Some(address) => {
                    attempts.push(Box::pin(connect(address)));
                    delay = (addresses.len() > 0).then(|| Box::pin(sleep(ATTEMPT_DELAY)));
                }
                None if attempts.is_empty() => {
                    return Poll::Ready(Err(failure.take().unwrap_or_else(|| {
                        io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} resolves to no address"))
                    })));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// The later error, unless the earlier one says more of the server: an address that this host cannot reach, as `::1`
/// where IPv6 is off, must not hide that the server refused at another.
fn weightier(earlier: Option<io::Error>, later: io::Error) -> io::Error {
    match earlier {
        Some(earlier) if weight(&earlier) > weight(&later) => earlier,
        _ => later,
    }
}

fn weight(error: &io::Error) -> u8 {
    match (ConnectFault::of(error), error.kind()) {
        (ConnectFault::Client, _) => 0,
        (ConnectFault::Server, io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable) => 1,
        (ConnectFault::Server, _) => 2,
    }
}
