//! Name look-ups: their errors say so, and the attempt that a look-up belongs to can tell that it still runs.
//!
//! A look-up (`getaddrinfo`) runs on tokio's blocking threads. If those are busy, or the resolver does not answer, the
//! connect timeout ends before the server was ever spoken to. That is no fault of the server. So the pool runs each
//! attempt as [`watched`], and at the timeout asks for the name that is [`running`].

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::lookup_host;
use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

use crate::sync::Arc;

task_local! {
    /// The names that this attempt looks up at the moment: several, if the connector opens several connections at once.
    static NAMES: RefCell<Vec<Arc<str>>>;
}

/// An attempt whose look-ups are noted.
pub(crate) type Watched<F> = TaskLocalFuture<RefCell<Vec<Arc<str>>>, F>;

/// The attempt, with its look-ups noted. Those that it runs in tasks of its own are not.
pub(crate) fn watched<F: Future>(attempt: F) -> Watched<F> {
    NAMES.scope(RefCell::default(), attempt)
}

/// The name of a look-up that still runs. The attempt must not be polled any more.
pub(crate) fn running<F: Future>(attempt: Pin<&mut Watched<F>>) -> Option<Arc<str>> {
    attempt.take_value()?.into_inner().into_iter().next()
}

/// A look-up, noted in its attempt for as long as this lives.
struct Noted(Arc<str>);

impl Noted {
    fn new(name: &str) -> Self {
        let name = Arc::from(name);
        // An error: the attempt is not watched.
        let _ = NAMES.try_with(|names| names.borrow_mut().push(Arc::clone(&name)));
        Self(name)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let _ = NAMES.try_with(|names| {
            let mut names = names.borrow_mut();
            if let Some(index) = names.iter().position(|name| Arc::ptr_eq(name, &self.0)) {
                names.remove(index);
            }
        });
    }
}

#[derive(Debug, thiserror::Error)]
#[error("look-up of {name:?} failed")]
struct LookUpFailed {
    name: Arc<str>,
    #[source]
    cause: io::Error,
}

/// The socket addresses that `address` stands for, in the order of the resolver. Only a name, and an IPv6 address whose
/// scope is a name, is looked up.
///
/// # Cancel safety
///
/// A look-up that began on a blocking thread goes on there, and its result is dropped.
///
/// # Errors
///
/// When `address` is not `host:port`; and when the look-up fails, with the name and the kind of the system's error,
/// which is the source.
pub(super) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let Some((name, port)) = split(address) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is not of the form host:port")));
    };
    let noted = Noted::new(name);
    let found = lookup_host((name, port)).await;
    match found {
        Ok(found) => Ok(found.collect()),
        Err(cause) => Err(io::Error::new(cause.kind(), LookUpFailed { name: Arc::clone(&noted.0), cause })),
    }
}

/// The host, without the brackets of an IPv6 address, and the port. `getaddrinfo` knows no brackets.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Some((bare.unwrap_or(host), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use tokio::runtime::Builder;

    use super::*;

    #[tokio::test]
    async fn numeric_address_is_not_looked_up() {
        for address in ["192.0.2.1:80", "[2001:db8::1]:80"] {
            let mut resolving = pin!(watched(resolve(address)));
            let polled = resolving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready(), "{address}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn scope_of_a_bracketed_address_is_a_number_or_a_name() {
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap().trim().to_owned();
        for address in ["[fe80::1%lo]:80".to_owned(), "fe80::1%lo:80".to_owned(), format!("[fe80::1%{index}]:80")] {
            let [found] = resolve(&address).await.unwrap()[..] else { panic!("{address}") };
            assert_eq!(found.to_string(), format!("[fe80::1%{index}]:80"), "{address}");
        }
    }

    #[tokio::test]
    async fn failed_look_up_names_the_host() {
        // One that fails without a question to a name server.
        let error = resolve("[fe80::1%no-interface]:80").await.unwrap_err();
        assert_eq!(error.to_string(), "look-up of \"fe80::1%no-interface\" failed");
        let source = error.source().expect("the error of the system");
        assert!(source.is::<io::Error>() && source.to_string() != error.to_string(), "{source}");
        for address in ["no port", "no-port:", "big-port:65536", ""] {
            let error = resolve(address).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
            assert_eq!(error.to_string(), format!("{address:?} is not of the form host:port"));
        }
    }

    #[test]
    fn look_up_is_noted_while_it_runs() {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // The one blocking thread is busy until `busy` is dropped.
            let (busy, is_free) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || is_free.recv());
            let mut cx = Context::from_waker(Waker::noop());
            let mut hangs = pin!(watched(resolve("localhost:80")));
            assert!(hangs.as_mut().poll(&mut cx).is_pending());
            assert_eq!(running(hangs.as_mut()).as_deref(), Some("localhost"));

            let mut several = pin!(watched(async {
                let mut first = Box::pin(resolve("localhost:80"));
                let mut second = Box::pin(resolve("ip6-localhost:80"));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
                // Cancelled, it no longer runs.
                drop(first);
                second.await
            }));
            assert!(several.as_mut().poll(&mut cx).is_pending());
            assert_eq!(running(several.as_mut()).as_deref(), Some("ip6-localhost"));

            drop(busy);
            let mut found = pin!(watched(resolve("localhost:80")));
            assert!(found.as_mut().await.is_ok());
            assert_eq!(running(found.as_mut()), None);
        });
    }
}
