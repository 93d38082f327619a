//! A manager that records what it is asked.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use connring::{AcquireError, CloseReason, ConnectFault, Connector, Pool, PooledConn, Server};
use connring_deadpool::deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use connring_deadpool::{DeadpoolConn, DeadpoolConnector, ManagerError};

/// Its connections are the address of its server, and may be overwritten.
#[derive(Default)]
struct Scripted {
    address: String,
    /// The metrics of each recycle.
    recycled: Mutex<Vec<Metrics>>,
    detached: AtomicUsize,
}

impl Manager for Scripted {
    type Type = String;
    type Error = io::Error;

    async fn create(&self) -> io::Result<String> {
        Ok(self.address.clone())
    }

    async fn recycle(&self, conn: &mut String, metrics: &Metrics) -> RecycleResult<io::Error> {
        self.recycled.lock().unwrap().push(*metrics);
        match &**conn {
            "broken" => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            "odd" => Err(RecycleError::message("it is odd")),
            _ => {
                assert_eq!(*conn, self.address, "a connection of another manager");
                Ok(())
            }
        }
    }

    fn detach(&self, _: &mut String) {
        self.detached.fetch_add(1, Ordering::Relaxed);
    }
}

/// A manager for the server "a", and a connector that shares it.
fn shared() -> (Arc<Scripted>, DeadpoolConnector<Scripted>) {
    let manager = Arc::new(Scripted { address: "a".to_owned(), ..Scripted::default() });
    let connector = DeadpoolConnector::new({
        let manager = Arc::clone(&manager);
        move |_| Ok(Arc::clone(&manager))
    });
    (manager, connector)
}

/// A pool of one connection.
fn pool(connector: DeadpoolConnector<Scripted>) -> Pool<DeadpoolConnector<Scripted>> {
    Pool::builder(connector).server("a").max_conns_per_server(1).build().unwrap()
}

#[tokio::test]
async fn connection_is_recycled_after_each_release_with_its_metrics() {
    let (manager, connector) = shared();
    let pool = pool(connector);
    for recycles in 0..3 {
        let conn = pool.acquire().await.unwrap();
        assert_eq!(PooledConn::info(&conn).uses(), recycles);
        assert_eq!(manager.recycled.lock().unwrap().len(), recycles as usize, "not at the checkout");
        conn.release();
    }
    // Waits until the last one is recycled.
    pool.acquire().await.unwrap().release();
    let recycled = manager.recycled.lock().unwrap().clone();
    assert_eq!(recycled.iter().map(|metrics| metrics.recycle_count).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(recycled.iter().map(|metrics| metrics.recycled.is_some()).collect::<Vec<_>>(), [false, true, true]);
    assert!(recycled[1].recycled < recycled[2].recycled);
    assert!(recycled.iter().all(|metrics| metrics.created == recycled[0].created));
}

#[tokio::test]
async fn connection_that_its_manager_refuses_closes_and_counts_a_failure() {
    let (manager, connector) = shared();
    let pool = pool(connector);
    for state in ["broken", "odd"] {
        let mut conn = pool.acquire().await.unwrap();
        state.clone_into(&mut conn);
        conn.release();
        let conn = pool.acquire().await.unwrap();
        assert_eq!(**conn, "a");
        assert_eq!(PooledConn::info(&conn).uses(), 0);
        conn.discard();
    }
    let totals = pool.status().totals;
    assert_eq!((totals.closes(CloseReason::RecycleFailed), totals.failures), (2, 2));
    assert_eq!(manager.detached.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn dropped_connection_closes_unless_the_connector_reuses_it_after_a_recycle() {
    let (manager, connector) = shared();
    let closing = pool(connector);
    drop(closing.acquire().await.unwrap());
    assert_eq!(closing.status().totals.closes(CloseReason::Dropped), 1);
    assert!(manager.recycled.lock().unwrap().is_empty());

    let (manager, connector) = shared();
    let reusing = pool(connector.reuse_dropped(true));
    drop(reusing.acquire().await.unwrap());
    let conn = reusing.acquire().await.unwrap();
    assert_eq!((PooledConn::info(&conn).uses(), manager.recycled.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn check_recycles_and_counts_no_reuse() {
    let (manager, connector) = shared();
    let mut conn = connector.connect(&Server::new("a")).await.unwrap();
    for _ in 0..2 {
        connector.check(&mut conn).await.unwrap();
    }
    let counts: Vec<_> = manager.recycled.lock().unwrap().iter().map(|metrics| metrics.recycle_count).collect();
    assert_eq!(counts, [0, 0]);
    "odd".clone_into(&mut conn);
    let error = connector.check(&mut conn).await.unwrap_err();
    assert_eq!(error.to_string(), "the manager did not recycle the connection: it is odd");
    "broken".clone_into(&mut conn);
    let error = connector.check(&mut conn).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), io::Error::from(io::ErrorKind::BrokenPipe).to_string());
}

#[tokio::test]
async fn manager_detaches_each_connection_once_and_goes_with_it() {
    let (manager, connector) = shared();
    let connector = pool(connector);
    let conn = DeadpoolConn::into_inner(connector.acquire().await.unwrap().detach());
    assert_eq!((&*conn, manager.detached.load(Ordering::Relaxed)), ("a", 1));
    let conn = connector.acquire().await.unwrap();
    assert_eq!(manager.detached.load(Ordering::Relaxed), 1);
    conn.discard();
    assert_eq!(manager.detached.load(Ordering::Relaxed), 2);
    drop(connector);
    assert_eq!(Arc::strong_count(&manager), 1);
}

#[tokio::test]
async fn each_connection_is_recycled_by_the_manager_of_its_server() {
    let connector = DeadpoolConnector::new(|server| {
        Ok(Arc::new(Scripted { address: server.address().to_owned(), ..Scripted::default() }))
    });
    let pool = Pool::builder(connector).servers(["a", "b"]).max_conns_per_server(1).build().unwrap();
    for _ in 0..4 {
        for conn in [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()] {
            assert_eq!(**conn, PooledConn::info(&conn).server().address());
            conn.release();
        }
    }
    assert_eq!(pool.status().totals.connects, 2);
}

#[tokio::test]
async fn error_of_making_a_manager_is_a_failed_connect_with_that_cause() {
    let connector = DeadpoolConnector::<Scripted>::new(|_| Err(io::ErrorKind::InvalidInput.into()));
    let pool = Pool::builder(connector).server("a").build().unwrap();
    let AcquireError::Unavailable(reason) = pool.acquire_now().await.unwrap_err() else { panic!("no attempt is left") };
    let (mut chain, mut next) = (Vec::new(), reason.source());
    while let Some(error) = next {
        chain.push(error.to_string());
        next = error.source();
    }
    let cause = io::Error::from(io::ErrorKind::InvalidInput).to_string();
    assert_eq!(chain, ["connect failed", "the manager failed", &cause]);
}

#[test]
fn fault_of_the_client_is_found_in_the_managers_error() {
    let (_, connector) = shared();
    let fault = |kind| connector.classify(&ManagerError::Failed(io::Error::from(kind)));
    assert_eq!(fault(io::ErrorKind::OutOfMemory), ConnectFault::Client);
    assert_eq!(fault(io::ErrorKind::ConnectionRefused), ConnectFault::Server);
}
