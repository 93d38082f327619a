//! Whose fault a failed connect is: the server's, or the client's own.

use std::error::Error;
use std::io;

use super::BoxError;
use crate::sync::Arc;

/// Whose fault a failed connect is.
///
/// Either way connecting to the server pauses for the backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectFault {
    /// The server's. It goes down, unless its open connections answer.
    Server,
    /// The client's own: it is out of descriptors, ports, buffers or memory. It says nothing about the server, which
    /// stays up.
    Client,
}

impl ConnectFault {
    /// Looks through `error` and its sources for a fault of the client: the default of
    /// [`Connector::classify`](crate::Connector::classify).
    ///
    /// Returns `Client` if one of them is an [`io::Error`] with one of these causes, and `Server` otherwise:
    ///
    /// - the process or the host is out of descriptors (`EMFILE`, `ENFILE`), buffers (`ENOBUFS`) or memory (`ENOMEM`,
    ///   [`io::ErrorKind::OutOfMemory`]);
    /// - [`TcpConnector`](crate::TcpConnector) found no free local port;
    /// - [`UnixConnector`](crate::UnixConnector) found the listen queue of the socket full.
    ///
    /// An [`io::Error`] is found in an `Arc`, in a `Box`, in a [`BoxError`] and in another [`io::Error`], too.
    ///
    /// The meaning of `EADDRNOTAVAIL` and `EAGAIN` depends on what the connector did, so alone they count as faults of
    /// the server: an IPv6 address yields the first where IPv6 is off, and a read with a timeout yields the second. A
    /// connector that binds its sockets to a local address classifies `EADDRNOTAVAIL` itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use connring::ConnectFault;
    ///
    /// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    /// assert_eq!(ConnectFault::of(&refused), ConnectFault::Server);
    /// # #[cfg(unix)] {
    /// let out_of_descriptors = io::Error::other(io::Error::from_raw_os_error(libc::EMFILE));
    /// assert_eq!(ConnectFault::of(&out_of_descriptors), ConnectFault::Client);
    /// # }
    /// ```
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<OwnFault>() {
                return Self::Client;
            }
            let io_error = io_error(error);
            if io_error.is_some_and(is_own) {
                return Self::Client;
            }
            // The `source` of these three is that of the error inside, which it leaves out.
            let inside = io_error.and_then(io::Error::get_ref).map(|inside| inside as &(dyn Error + 'static));
            let inside = inside.or_else(|| error.downcast_ref::<BoxError>().map(BoxError::inside));
            let inside = inside.or_else(|| error.downcast_ref::<Shared>().map(|error| &**error as _));
            next = inside.or_else(|| error.source());
        }
        Self::Server
    }
}

/// An error that can be cloned, as those of some drivers.
type Shared = Arc<dyn Error + Send + Sync>;

/// An [`io::Error`], or what points to one and is an error, too.
fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let in_arc = || error.downcast_ref::<Arc<io::Error>>().map(|error| &**error);
    let in_box = || error.downcast_ref::<Box<io::Error>>().map(|error| &**error);
    error.downcast_ref().or_else(in_arc).or_else(in_box)
}

/// Whether this host or process is out of descriptors, buffers or memory.
fn is_own(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        return matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM);
    }
    error.kind() == io::ErrorKind::OutOfMemory
}

/// A fault of the client that the number of the error alone does not show: the connector of the crate that met it knows
/// more. Inside an [`io::Error`], so that [`ConnectFault::of`] finds it in any error around that.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct OwnFault {
    text: &'static str,
    #[source]
    cause: io::Error,
}

impl OwnFault {
    /// An error of the same kind as `cause`.
    pub(super) fn error(text: &'static str, cause: io::Error) -> io::Error {
        io::Error::new(cause.kind(), Self { text, cause })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// An error of a user's connector.
    #[derive(Debug, thiserror::Error)]
    #[error("login failed")]
    struct Login<E: Error + 'static>(#[source] E);

    fn os(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn what_this_host_lacks_is_the_clients_fault() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(ConnectFault::of(&os(code)), ConnectFault::Client, "{code}");
        }
        assert_eq!(ConnectFault::of(&io::Error::from(io::ErrorKind::OutOfMemory)), ConnectFault::Client);
    }

    #[test]
    fn all_else_is_the_servers_fault() {
        let codes = [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENOENT];
        for code in codes.into_iter().chain([libc::EAGAIN, libc::EADDRNOTAVAIL]) {
            assert_eq!(ConnectFault::of(&os(code)), ConnectFault::Server, "{code}");
        }
        assert_eq!(ConnectFault::of(&io::Error::other("a bad greeting")), ConnectFault::Server);
        assert_eq!(ConnectFault::of(&io::Error::from(io::ErrorKind::AddrNotAvailable)), ConnectFault::Server);
    }

    #[test]
    fn fault_of_the_client_is_found_in_any_error_around_it() {
        let own = || os(libc::EMFILE);
        let around: [Box<dyn Error>; 9] = [
            Box::new(Login(own())),
            Box::new(Login(Login(own()))),
            Box::new(Login(Arc::new(own()))),
            Box::new(Login(Box::new(own()))),
            Box::new(io::Error::other(own())),
            Box::new(io::Error::other(Login(own()))),
            Box::new(Login(io::Error::new(io::ErrorKind::ConnectionRefused, io::Error::other(own())))),
            Box::new(Login(BoxError::new(own()))),
            Box::new(Login(Shared::from(Box::from(own())))),
        ];
        for error in around {
            assert_eq!(ConnectFault::of(&*error), ConnectFault::Client, "{error:?}");
        }
        let known = OwnFault::error("no local port is free", os(libc::EADDRNOTAVAIL));
        assert_eq!((known.kind(), ConnectFault::of(&known)), (io::ErrorKind::AddrNotAvailable, ConnectFault::Client));
        assert_eq!(ConnectFault::of(&Login(known)), ConnectFault::Client);
    }
}
