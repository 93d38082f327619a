//! Names, addresses and tags: what identifies a server, and what makes its connections lead elsewhere.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::{BuildError, Clock, Pool, PooledConn, Server, ServerError, ServerState, connect_fn};

use crate::support::{Rig, open, settle};

#[tokio::test(start_paused = true)]
async fn servers_with_one_address_have_limits_of_their_own() {
    let named = |name: &str| Server::named(name, "a:1").max_conns(1);
    let rig = Rig::paused(|builder| builder.servers([named("first"), named("second")]));
    let held = open(&rig, 2).await;
    let mut names: Vec<_> = held.iter().map(|conn| PooledConn::info(conn).server().name().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["first", "second"]);
    assert_eq!((rig.connector.counts("a:1").open, rig.pool.try_acquire().is_err()), (2, true));
    let servers = rig.pool.status().servers;
    let shown: Vec<_> = servers.iter().map(|server| (&*server.name, &*server.address)).collect();
    assert_eq!(shown, [("first", "a:1"), ("second", "a:1")]);
    rig.pool.deregister("first").expect("known by its name");
    assert_eq!(rig.pool.deregister("a:1"), Err(ServerError::Unknown { name: "a:1".into() }));
}

#[tokio::test(start_paused = true)]
async fn names_must_be_distinct_and_addresses_need_not_be() {
    let rig = Rig::paused(|builder| builder.server(Server::named("n", "a:1")));
    let duplicate = Err(ServerError::Duplicate { name: "n".into() });
    assert_eq!(rig.pool.register(Server::named("n", "b:1")), duplicate);
    assert_eq!(rig.pool.set_servers([Server::named("n", "a:1"), Server::named("n", "b:1")]), duplicate);
    rig.pool.register("a:1").expect("another name");
}

#[tokio::test(start_paused = true)]
async fn blanks_are_refused_with_the_value() {
    let rig = Rig::paused(|builder| builder.server("z:1"));
    for text in [" b:1", "b:1 ", "b:1\n", "\tb:1", " "] {
        let blanks = ServerError::Blanks { text: text.into() };
        let built = Pool::builder(rig.connector.clone()).servers(["a:1", text]).build().map(drop);
        assert_eq!(built, Err(BuildError::Server(blanks.clone())));
        assert_eq!(rig.pool.register(text), Err(blanks.clone()));
        assert_eq!(rig.pool.register(Server::named(text, "b:1")), Err(blanks.clone()));
        assert_eq!(rig.pool.set_servers(["a:1", text]), Err(blanks.clone()));
        assert!(blanks.to_string().contains(&format!("{text:?}")), "{blanks}");
    }
    for server in [Server::new(""), Server::named("n", ""), Server::named("", "b:1")] {
        let name = server.name().into();
        assert_eq!(rig.pool.register(server), Err(ServerError::EmptyAddress { name }));
    }
    // Blanks within a name are none around it.
    rig.pool.register(Server::named("replica 2", "b:1")).expect("a name may have blanks");
}

#[tokio::test(start_paused = true)]
async fn update_replaces_all_settings() {
    let rig = Rig::paused(|builder| builder.server(Server::new("a:1").max_rps(5.0)).max_conns_per_server(3));
    rig.pool.acquire().await.expect("it accepts").release();
    rig.pool.update(Server::new("a:1").max_conns(7)).expect("it is registered");
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((server.max_conns, server.max_rps, server.idle), (7, None, 1), "its connection stays");
    rig.pool.update("a:1").expect("it is registered");
    assert_eq!(rig.pool.status().servers[0].max_conns, 3, "the builder's");
    assert_eq!(rig.pool.update("b:1"), Err(ServerError::Unknown { name: "b:1".into() }));
    let refused = rig.pool.update(Server::new("a:1").max_conns(0));
    assert!(matches!(refused, Err(ServerError::OutOfRange { setting: "max_conns", .. })), "{refused:?}");
    rig.pool.close().await;
    assert_eq!(rig.pool.update("a:1"), Err(ServerError::Closed));
}

/// Connections to the old address close, idle ones at once and others when they come back. The server stays the same.
#[tokio::test(start_paused = true)]
async fn moved_server_keeps_its_state_and_not_its_connections() {
    for updates in [true, false] {
        let change = |pool: &Pool<_>, server: Server| match updates {
            true => pool.update(server),
            false => pool.set_servers([server]),
        };
        let rig = Rig::paused(|builder| builder.server(Server::named("n", "a:1").max_rps(1.0).burst(2)));
        let [idle, out] = <[_; 2]>::try_from(open(&rig, 2).await).expect("two");
        idle.release();
        change(&rig.pool, Server::named("n", "b:1").max_rps(1.0).burst(2)).expect("it is registered");
        assert_eq!(rig.connector.counts("a:1").open, 1, "the idle one closed");
        assert!(rig.pool.try_acquire().is_err(), "its tokens are spent still");
        assert_eq!(&*rig.pool.status().servers[0].address, "b:1");
        out.release();
        assert_eq!(rig.connector.counts("a:1").open, 0);
        let conn = rig.pool.acquire().await.expect("it accepts at its new address");
        assert_eq!(conn.address(), "b:1");
    }
}

#[tokio::test(start_paused = true)]
async fn connector_sees_name_and_tags_and_a_changed_tag_closes_connections() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let connector = connect_fn(move |server: Server| {
        let tag = server.tag_value("sni").map(str::to_owned);
        log.lock().expect("no panic").push((server.name().to_owned(), tag));
        async { Ok::<_, Infallible>(()) }
    });
    let tagged = |value: &str| Server::named("n", "a:1").tag("sni", "old").tag("sni", value);
    let pool = Pool::builder(connector).clock(Clock::tokio()).server(tagged("x")).build().expect("in range");
    pool.acquire().await.expect("it connects").release();
    pool.update(tagged("x")).expect("it is registered");
    pool.acquire().await.expect("the connection is idle").release();
    pool.update(tagged("y")).expect("it is registered");
    assert_eq!(pool.status().servers[0].open, 0);
    let conn = pool.acquire().await.expect("it connects");
    assert_eq!(PooledConn::info(&conn).server().tag_value("sni"), Some("y"));
    assert_eq!(Server::new("a:1").tag_value("sni"), None);
    settle().await;
    let expected = ["x", "y"].map(|tag| ("n".to_owned(), Some(tag.to_owned())));
    assert_eq!(*seen.lock().expect("no panic"), expected);
}

#[tokio::test]
async fn tags_in_another_order_are_the_same() {
    let rig = Rig::paused(|builder| builder.server(Server::new("a:1").tag("sni", "a.example").tag("zone", "x")));
    rig.pool.acquire().await.expect("it accepts").release();
    let same = || Server::new("a:1").tag("zone", "x").tag("sni", "a.example");
    assert_eq!(same(), Server::new("a:1").tag("sni", "a.example").tag("zone", "x"));
    rig.pool.set_servers([same()]).expect("it is listed once");
    assert_eq!(rig.pool.status().servers[0].idle, 1, "its connection stays");
    rig.pool.update(same().tag("zone", "z")).expect("it is registered");
    assert_eq!(rig.pool.status().servers[0].idle, 0);
}

#[tokio::test(start_paused = true)]
async fn connection_to_the_old_address_tells_nothing_of_the_new_one() {
    let servers = |address: &str| [Server::named("n", address), Server::new("m")];
    let rig = Rig::paused(|builder| builder.servers(servers("a:1")));
    let [first, second] = [rig.pool.acquire().await, rig.pool.acquire().await].map(|conn| conn.expect("both accept"));
    let (of_n, of_m) = if first.address() == "a:1" { (first, second) } else { (second, first) };
    rig.pool.set_servers(servers("b:1")).expect("in range");
    of_n.fail_for("it is loading", Duration::from_secs(60));
    of_m.release();
    let status = rig.pool.status();
    assert!(status.servers.iter().all(|server| server.state == ServerState::Up), "{status}");
    assert_eq!(status.totals.failures, 1, "it counts as a failure of the server by that name");
}
