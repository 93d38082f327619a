//! A manager whose connections break on order.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use connring::{AcquireError, CloseReason, ConnectFault, Connector, Pool, PooledConn, Server};
use connring_bb8::bb8::ManageConnection;
use connring_bb8::{Bb8Conn, Bb8Connector};

/// Its connections know whether they are broken, and the address of their manager.
struct Scripted {
    address: String,
}

#[derive(Debug)]
struct Conn {
    address: String,
    is_broken: Arc<AtomicBool>,
}

impl ManageConnection for Scripted {
    type Connection = Conn;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Conn> {
        Ok(Conn { address: self.address.clone(), is_broken: Arc::default() })
    }

    async fn is_valid(&self, conn: &mut Conn) -> io::Result<()> {
        assert_eq!(conn.address, self.address, "a connection of another manager");
        if conn.is_broken.load(Ordering::Relaxed) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        assert_eq!(conn.address, self.address, "a connection of another manager");
        conn.is_broken.load(Ordering::Relaxed)
    }
}

fn make(server: &Server) -> io::Result<Arc<Scripted>> {
    Ok(Arc::new(Scripted { address: server.address().to_owned() }))
}

fn pool(connector: Bb8Connector<Scripted>) -> Pool<Bb8Connector<Scripted>> {
    Pool::builder(connector).servers(["a", "b"]).max_conns_per_server(1).build().unwrap()
}

#[tokio::test]
async fn each_connection_is_asked_about_by_the_manager_of_its_server() {
    let pool = pool(Bb8Connector::new(make));
    for _ in 0..6 {
        let conns = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
        for conn in conns {
            assert_eq!(conn.address, PooledConn::info(&conn).server().address());
            conn.release();
        }
    }
    assert_eq!(pool.status().totals.connects, 2);
}

#[tokio::test]
async fn connection_that_breaks_in_use_closes_at_its_release() {
    let pool = pool(Bb8Connector::new(make));
    let conn = pool.acquire().await.unwrap();
    conn.is_broken.store(true, Ordering::Relaxed);
    conn.release();
    let status = pool.status();
    assert_eq!((status.totals.closes(CloseReason::Unfit), status.servers[0].idle + status.servers[1].idle), (1, 0));
}

#[tokio::test]
async fn connection_that_breaks_while_idle_is_not_checked_out() {
    let pool = Pool::builder(Bb8Connector::new(make)).server("a").max_conns_per_server(1).build().unwrap();
    let conn = pool.acquire().await.unwrap();
    let is_broken = Arc::clone(&conn.is_broken);
    conn.release();
    is_broken.store(true, Ordering::Relaxed);
    let conn = pool.acquire().await.unwrap();
    assert!(!conn.is_broken.load(Ordering::Relaxed));
    assert_eq!(pool.status().totals.closes(CloseReason::Unfit), 1);
}

#[tokio::test]
async fn dropped_connection_closes_unless_the_connector_reuses_it_and_it_works() {
    let closing = pool(Bb8Connector::new(make));
    drop(closing.acquire().await.unwrap());
    assert_eq!(closing.status().totals.closes(CloseReason::Dropped), 1);

    let reusing = Pool::builder(Bb8Connector::new(make).reuse_dropped(true)).server("a").build().unwrap();
    drop(reusing.acquire().await.unwrap());
    let conn = reusing.acquire().await.unwrap();
    assert_eq!(PooledConn::info(&conn).uses(), 1);
    conn.is_broken.store(true, Ordering::Relaxed);
    drop(conn);
    assert_eq!(reusing.status().totals.closed(), 1);
}

#[tokio::test]
async fn check_asks_the_manager_whether_the_connection_is_valid() {
    let connector = Bb8Connector::new(make);
    let mut conn = connector.connect(&Server::new("a")).await.unwrap();
    connector.check(&mut conn).await.unwrap();
    conn.is_broken.store(true, Ordering::Relaxed);
    assert_eq!(connector.check(&mut conn).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn manager_goes_with_its_connection() {
    let (sender, made) = std::sync::mpsc::channel::<Weak<Scripted>>();
    let connector = Bb8Connector::new(move |server| {
        let manager = make(server)?;
        sender.send(Arc::downgrade(&manager)).unwrap();
        Ok(manager)
    });
    let pool = Pool::builder(connector).server("a").build().unwrap();
    let conn = pool.acquire().await.unwrap();
    let manager = made.recv().unwrap();
    assert!(manager.upgrade().is_some());
    let conn = Bb8Conn::into_inner(conn.detach());
    assert!(manager.upgrade().is_none());
    assert_eq!(conn.address, "a");
}

#[tokio::test]
async fn error_of_making_a_manager_is_a_failed_connect_with_that_cause() {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "no manager for this server");
    let connector = Bb8Connector::<Scripted>::new(move |_| Err(refused()));
    assert_eq!(connector.classify(&refused()), ConnectFault::Server);
    let pool = Pool::builder(connector).server("a").build().unwrap();
    let AcquireError::Unavailable(reason) = pool.acquire_now().await.unwrap_err() else { panic!("no attempt is left") };
    let cause = std::error::Error::source(&reason).and_then(std::error::Error::source).unwrap();
    assert_eq!(cause.to_string(), "no manager for this server");
}
