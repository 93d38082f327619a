use std::io;

use super::*;
use crate::conn_info::ConnInfo;
use crate::raw::Time;
use crate::sync::Arc;

#[tokio::test]
async fn the_closure_gets_the_server() {
    let connector = connect_fn(|server: Server| async move {
        if server.address() == "b" { Err(io::Error::other("refused")) } else { Ok(server) }
    });
    let mut conn = connector.connect(&Server::new("a:1")).await.unwrap();
    assert_eq!(conn.address(), "a:1");
    let info = ConnInfo::new(Arc::new(Server::new("a:1")), Time::ZERO);
    assert!(Connector::is_reusable(&connector, &mut conn, &info));
    let error = connector.connect(&Server::new("b")).await.unwrap_err();
    assert_eq!(Connector::classify(&connector, &error), ConnectFault::Server);
    Connector::check(&connector, &mut conn).await.unwrap();
}

/// A connector of texts.
fn texts() -> FnConnector<impl Fn(Server) -> std::future::Ready<io::Result<String>> + Clone, String, io::Error> {
    connect_fn(|server: Server| std::future::ready(Ok(server.address().to_owned())))
}

async fn ping(conn: &mut String) -> io::Result<()> {
    tokio::task::yield_now().await;
    conn.push_str(" ping");
    if conn.starts_with("bad") { Err(io::Error::other("no pong")) } else { Ok(()) }
}

#[test]
fn classify_that_was_set_decides() {
    let connector = texts().classify(|error| match error.kind() {
        io::ErrorKind::Other => ConnectFault::Client,
        _ => ConnectFault::Server,
    });
    for connector in [connector.clone(), connector] {
        assert_eq!(Connector::classify(&connector, &io::Error::other("own")), ConnectFault::Client);
        let out_of_memory = io::ErrorKind::OutOfMemory.into();
        assert_eq!(Connector::classify(&connector, &out_of_memory), ConnectFault::Server, "not the default");
    }
}

#[test]
fn is_reusable_and_after_use_that_were_set_decide() {
    let connector = texts()
        .is_reusable(|conn, info| conn == "a" && info.uses() == 0)
        .after_use(|conn, ended| if conn == "a" { AfterUse::Recycle } else { AfterUse::of(ended) });
    let info = ConnInfo::new(Arc::new(Server::new("a")), Time::ZERO);
    for connector in [connector.clone(), connector] {
        let [mut a, mut b] = ["a", "b"].map(String::from);
        assert!(Connector::is_reusable(&connector, &mut a, &info));
        assert!(!Connector::is_reusable(&connector, &mut b, &info));
        assert_eq!(Connector::after_use(&connector, &mut a, Ended::Dropped), AfterUse::Recycle);
        assert_eq!(Connector::after_use(&connector, &mut b, Ended::Dropped), AfterUse::Close);
    }
}

#[tokio::test]
async fn hooks_that_were_not_set_have_the_defaults_of_the_trait() {
    let (connector, mut conn) = (texts(), String::new());
    let info = ConnInfo::new(Arc::new(Server::new("a")), Time::ZERO);
    assert!(Connector::is_reusable(&connector, &mut conn, &info));
    assert_eq!(Connector::after_use(&connector, &mut conn, Ended::Released), AfterUse::Reuse);
    assert_eq!(Connector::after_use(&connector, &mut conn, Ended::Dropped), AfterUse::Close);
    Connector::recycle(&connector, &mut conn).await.unwrap();
    Connector::check(&connector, &mut conn).await.unwrap();
    assert!(Connector::close(&connector, conn, CloseReason::Surplus).is_none());
}

#[tokio::test]
async fn close_that_was_set_gets_the_connection_and_the_reason() {
    let (closed, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let connector = texts().close(move |conn, why| {
        let closed = closed.clone();
        async move {
            tokio::task::yield_now().await;
            closed.send((conn, why)).unwrap();
        }
    });
    for connector in [connector.clone().boxed(), connector.boxed()] {
        connector.close("a".to_owned(), CloseReason::Reset).unwrap().await;
        assert_eq!(seen.recv().await.unwrap(), ("a".to_owned(), CloseReason::Reset));
    }
}

/// Checks or recycles a connection to `address`; its text afterwards, and the error's.
async fn tried(connector: impl Connector<Conn = String>, address: &str, is_check: bool) -> (String, Option<String>) {
    let mut conn = connector.connect(&Server::new(address)).await.expect("it always connects");
    let tried = if is_check { connector.check(&mut conn).await } else { connector.recycle(&mut conn).await };
    (conn, tried.err().map(|error| error.to_string()))
}

#[tokio::test]
async fn check_and_recycle_that_were_set_get_the_connection() {
    let word = String::from(" hello");
    let captures = async move |conn: &mut String| {
        conn.push_str(&word);
        ping(conn).await
    };
    assert_eq!(tried(texts().check(ping), "a", true).await, ("a ping".to_owned(), None));
    assert_eq!(tried(texts().recycle(ping), "a", false).await, ("a ping".to_owned(), None));
    for (connector, is_check) in [(texts().check(captures.clone()), true), (texts().recycle(captures), false)] {
        // The second time, too.
        for connector in [connector.clone(), connector] {
            assert_eq!(tried(connector.clone(), "a", is_check).await, ("a hello ping".to_owned(), None));
            let failed = ("bad hello ping".to_owned(), Some("no pong".to_owned()));
            assert_eq!(tried(connector.clone().boxed(), "bad", is_check).await, failed);
            assert_eq!(tried(connector.clone(), "bad", is_check).await, failed);
            assert_eq!(tried(connector, "a", !is_check).await, ("a".to_owned(), None), "the other hook was not set");
        }
    }
}
