//! Which address of a name worked last: it is tried first (RFC 8305, section 4).

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use super::race::connect_any;
use crate::sync::{Mutex, lock};

/// How many names are remembered, of those with several addresses. Each takes about 100 bytes.
const MAX_NAMES: usize = 4_096;

#[derive(Default)]
pub(super) struct LastGood {
    addresses: Mutex<HashMap<Box<str>, SocketAddr>>,
}

/// An attempt that began at the address that worked last. Unless it succeeded, that address is forgotten when this is
/// dropped: it failed, or did not answer in the time that the attempt had.
struct Trial<'a> {
    last_good: &'a LastGood,
    name: &'a str,
    first: SocketAddr,
}

impl LastGood {
    /// Connects to one of `addresses`, which `name` resolved to.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops every attempt under way, and forgets the address that worked last.
    ///
    /// # Errors
    ///
    /// When there is no address, or every attempt failed.
    pub(super) async fn connect<T, Fut>(
        &self,
        name: &str,
        mut addresses: Vec<SocketAddr>,
        connect: impl Fn(SocketAddr) -> Fut,
    ) -> io::Result<T>
    where
        Fut: Future<Output = io::Result<T>>,
    {
        if addresses.len() < 2 {
            return connect_any(name, addresses, connect).await;
        }
        let trial = self.get(name).and_then(|first| {
            let index = addresses.iter().position(|address| *address == first)?;
            addresses[..=index].rotate_right(1);
            Some(Trial { last_good: self, name, first })
        });
        let connect = |address| {
            let connecting = connect(address);
            async move { Ok((connecting.await?, address)) }
        };
        let (conn, address) = connect_any(name, addresses, connect).await?;
        if trial.as_ref().is_none_or(|trial| trial.first != address) {
            self.set(name, address);
        }
        std::mem::forget(trial);
        Ok(conn)
    }

    fn get(&self, name: &str) -> Option<SocketAddr> {
        lock(&self.addresses).get(name).copied()
    }

    fn set(&self, name: &str, address: SocketAddr) {
        let mut addresses = lock(&self.addresses);
        if let Some(known) = addresses.get_mut(name) {
            *known = address;
            return;
        }
        if addresses.len() >= MAX_NAMES {
            // Any: a name that is still in use is remembered again after its next attempt.
            if let Some(other) = addresses.keys().next().cloned() {
                addresses.remove(&other);
            }
        }
        addresses.insert(name.into(), address);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let mut addresses = lock(&self.last_good.addresses);
        // Another attempt may have found a better one meanwhile.
        if addresses.get(self.name) == Some(&self.first) {
            addresses.remove(self.name);
        }
    }
}

impl fmt::Debug for LastGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastGood").field("names", &lock(&self.addresses).len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::clock::Clock;

    const SLOW: Duration = Duration::from_secs(60);

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// A name with three addresses, whose ports tell them apart.
    struct Name {
        last_good: LastGood,
        /// Those that swallow attempts.
        dead: RefCell<Vec<u16>>,
        /// Those that refuse at once.
        refusing: RefCell<Vec<u16>>,
        tried: RefCell<Vec<u16>>,
    }

    impl Name {
        fn new(dead: &[u16]) -> Self {
            let last_good = LastGood::default();
            Self { last_good, dead: dead.to_vec().into(), refusing: RefCell::default(), tried: RefCell::default() }
        }

        /// The port that was connected to, after how many milliseconds, and the ports that were tried.
        async fn connect(&self, timeout: Duration) -> (Option<u16>, u128, Vec<u16>) {
            let clock = Clock::tokio();
            self.tried.borrow_mut().clear();
            let connecting = self.last_good.connect("name:1", (1..=3).map(address).collect(), |address| async move {
                self.tried.borrow_mut().push(address.port());
                if self.dead.borrow().contains(&address.port()) {
                    sleep(SLOW).await;
                }
                if self.refusing.borrow().contains(&address.port()) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(address.port())
            });
            let port = tokio::time::timeout(timeout, connecting).await.ok().and_then(Result::ok);
            (port, clock.now().as_millis(), self.tried.borrow().clone())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_first_connect_waits_for_a_dead_address() {
        let name = Name::new(&[1]);
        let (port, after, tried) = name.connect(SLOW).await;
        assert_eq!((port, tried), (Some(2), vec![1, 2]));
        assert!((250..=252).contains(&after), "{after}");
        for _ in 0..3 {
            assert_eq!(name.connect(SLOW).await, (Some(2), 0, vec![2]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn address_that_fails_is_forgotten() {
        let name = Name::new(&[]);
        name.refusing.replace(vec![1, 2]);
        assert_eq!(name.connect(SLOW).await.0, Some(3));
        // It is passed over for another, which replaces it.
        name.refusing.replace(vec![1, 3]);
        assert_eq!(name.connect(SLOW).await, (Some(2), 0, vec![3, 1, 2]));
        assert_eq!(name.connect(SLOW).await, (Some(2), 0, vec![2]));
        // All fail.
        name.refusing.replace(vec![1, 2, 3]);
        assert_eq!(name.connect(SLOW).await, (None, 0, vec![2, 1, 3]));
        assert_eq!(name.connect(SLOW).await, (None, 0, vec![1, 2, 3]));
    }

    #[tokio::test(start_paused = true)]
    async fn address_that_outlasts_its_attempt_is_forgotten() {
        let name = Name::new(&[]);
        name.refusing.replace(vec![1]);
        assert_eq!(name.connect(SLOW).await.0, Some(2));
        name.refusing.replace(vec![]);
        name.dead.replace(vec![2]);
        // A timeout shorter than the delay before the next address.
        let timeout = Duration::from_millis(100);
        assert_eq!(name.connect(timeout).await.2, [2]);
        assert_eq!(name.connect(timeout).await, (Some(1), 0, vec![1]));
    }

    #[tokio::test]
    async fn address_that_is_gone_from_the_name_is_not_tried() {
        let last_good = LastGood::default();
        let connect = |address: SocketAddr| async move { Ok(address.port()) };
        last_good.set("name:1", address(9));
        assert_eq!(last_good.connect("name:1", vec![address(1), address(2)], connect).await.unwrap(), 1);
        assert_eq!(last_good.get("name:1"), Some(address(1)));
        // One with a single address is not remembered.
        assert_eq!(last_good.connect("one:1", vec![address(1)], connect).await.unwrap(), 1);
        assert_eq!(last_good.get("one:1"), None);
    }

    #[test]
    fn number_of_remembered_names_is_bounded() {
        let last_good = LastGood::default();
        for number in 0..2 * MAX_NAMES {
            last_good.set(&format!("name-{number}:1"), address(1));
        }
        assert_eq!(lock(&last_good.addresses).len(), MAX_NAMES);
        let newest = format!("name-{}:1", 2 * MAX_NAMES - 1);
        assert_eq!(last_good.get(&newest), Some(address(1)));
        last_good.set(&newest, address(2));
        assert_eq!((last_good.get(&newest), lock(&last_good.addresses).len()), (Some(address(2)), MAX_NAMES));
    }
}
