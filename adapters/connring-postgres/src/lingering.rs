//! Counts the connections that their pool counts no longer and whose server has not closed yet, so that a new
//! connection does not find the last slot of the server taken.
//!
//! Clones of a connector share the counts, since the slots are the server's. With counts of its own, each clone would
//! keep to the maximum of its own pool alone: a pool that replaces another one, or a wrapper that clones its connector
//! for each connect, would find the slots of sessions that are still closing. A session usually lingers for some
//! milliseconds, so the pools hardly wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The counts of all addresses that have connections.
#[derive(Debug, Default)]
pub(crate) struct Lingering(Mutex<HashMap<Box<str>, Count>>);

impl Lingering {
    pub(crate) fn at(&self, address: &str) -> Count {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get(address) {
            return count.clone();
        }
        // Each connection holds its count.
        counts.retain(|_, count| Arc::strong_count(&count.0) > 1);
        counts.entry(address.into()).or_insert_with(|| Count(Arc::new(watch::Sender::new(0)))).clone()
    }
}

/// The count of one address.
#[derive(Debug, Clone)]
pub(crate) struct Count(Arc<watch::Sender<usize>>);

impl Count {
    /// Waits until it is zero. Bound the wait: a lingering session ends in a second, and meanwhile no clone of the
    /// connector opens a connection, but under load another caller may use a zero before this one sees it.
    pub(crate) async fn is_zero(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|&count| count == 0).await;
    }

    pub(crate) fn add(&self) -> Lingers {
        self.0.send_modify(|count| *count += 1);
        Lingers(self.clone())
    }
}

/// One connection, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Lingers(Count);

impl Drop for Lingers {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn count_is_zero_when_the_last_one_is_gone() {
        let lingering = Lingering::default();
        let (first, second) = (lingering.at("a").add(), lingering.at("a").add());
        assert!(lingering.at("b").is_zero().now_or_never().is_some());
        drop(first);
        assert!(lingering.at("a").is_zero().now_or_never().is_none());
        drop(second);
        assert!(lingering.at("a").is_zero().now_or_never().is_some());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let lingering = Lingering::default();
        let kept = lingering.at("kept");
        for number in 0..100 {
            lingering.at(&number.to_string());
        }
        let counts = lingering.0.lock().unwrap();
        assert!(counts.len() <= 2 && counts.contains_key("kept"), "{counts:?}");
        drop(kept);
    }
}
