//! Against dnsmasq: what its records become in a pool.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::{Connector, Follow, Pool, PoolStatus, Server, ServerState, TLS_SERVER_NAME, connect_fn};
use connring_dns::{AddressFamily, Dns, DnsError, ServerSets};
use connring_real_servers::{Dnsmasq, dnsmasq, free_port};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

/// Bounds a wait that should end long before.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(10);

/// Asks often, and removes soon.
fn dns(server: &Dnsmasq) -> Dns {
    let dns = Dns::name_servers([server.socket_address()]).min_interval(2 * STEP).max_interval(2 * STEP);
    dns.query_timeout(50 * STEP).keep_absent(10 * STEP).keep_empty(10 * STEP)
}

/// A pool that follows. Its connections are the servers that it connected to.
fn pool(sets: ServerSets) -> (Pool<impl Connector<Conn = Server>>, Follow) {
    let connector = connect_fn(|server: Server| async { io::Result::Ok(server) });
    let pool = Pool::builder(connector).build().expect("a pool");
    let follow = pool.follow(sets).expect("a runtime");
    (pool, follow)
}

/// The tier and the weight of each server, by its address.
type Table = BTreeMap<String, (u32, u32)>;

fn table(status: &PoolStatus) -> Table {
    let servers = status.servers.iter().filter(|server| server.state != ServerState::Draining);
    servers.map(|server| (server.address.to_string(), (server.tier, server.weight))).collect()
}

fn expected(servers: &[(&str, u32, u32)]) -> Table {
    servers.iter().map(|&(address, tier, weight)| (address.to_owned(), (tier, weight))).collect()
}

/// Waits until the pool has exactly these servers.
async fn until<C: Connector>(pool: &Pool<C>, servers: &[(&str, u32, u32)]) {
    let wait = async {
        while table(&pool.status()) != expected(servers) {
            sleep(STEP).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        assert_eq!(table(&pool.status()), expected(servers));
    }
}

/// The events of this thread, as text.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<u8>>>);

impl Events {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let events = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || events.clone()).finish())
    }

    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().expect("a lock")).matches(text).count()
    }

    /// Waits until there are this many.
    async fn reach(&self, count: usize, text: &str) {
        let wait = async {
            while self.count(text) < count {
                sleep(STEP).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{} of {text:?}", self.count(text)));
    }
}

impl io::Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const A: (&str, u32, u32) = ("10.0.0.1:5432", 0, 1);
const B: (&str, u32, u32) = ("10.0.0.2:5432", 0, 1);
const B6: (&str, u32, u32) = ("[fd00::2]:5432", 0, 1);

#[tokio::test]
async fn an_address_that_is_added_appears_and_one_that_is_removed_goes() {
    let Some(server) = dnsmasq("10.0.0.1 db.test", "") else { return };
    let (any, _follow) = pool(dns(&server).addresses("db.test", 5432).expect("a name"));
    let (v4, _follow_v4) = pool(dns(&server).family(AddressFamily::V4).addresses("db.test.", 5432).expect("a name"));
    until(&any, &[A]).await;
    server.set_hosts("10.0.0.1 db.test\n10.0.0.2 db.test\nfd00::2 db.test");
    until(&any, &[A, B, B6]).await;
    until(&v4, &[A, B]).await;
    server.set_hosts("10.0.0.2 db.test");
    until(&any, &[B]).await;
    let conn = any.acquire().await.expect("a server");
    assert_eq!(conn.tag_value(TLS_SERVER_NAME), Some("db.test"));
}

#[tokio::test]
async fn the_servers_stay_while_the_dns_server_is_dead() {
    let Some(mut server) = dnsmasq("10.0.0.1 db.test", "") else { return };
    let events = Events::default();
    let _guard = events.listen();
    let (pool, _follow) = pool(dns(&server).query_timeout(5 * STEP).addresses("db.test", 5432).expect("a name"));
    until(&pool, &[A]).await;
    server.kill();
    let warnings = events.count("a look-up failed, the servers stay");
    events.reach(5, "a look-up failed again").await;
    assert_eq!(table(&pool.status()), expected(&[A]));
    let warned = events.count("a look-up failed, the servers stay") - warnings;
    assert!(warned <= 1, "one warning for all failures in a row, but there were {warned}");
    server.set_hosts("10.0.0.1 db.test\n10.0.0.2 db.test");
    server.start_again();
    until(&pool, &[A, B]).await;
    assert_ne!(events.count("a look-up found records again"), 0);
}

#[tokio::test]
async fn a_name_that_ceases_to_exist_keeps_its_servers_for_the_time_or_for_ever() {
    let Some(server) = dnsmasq("10.0.0.1 db.test", "") else { return };
    let events = Events::default();
    let _guard = events.listen();
    let (kept, _follow_kept) = pool(dns(&server).keep_empty(None).addresses("db.test", 5432).expect("a name"));
    let (emptied, _follow) = pool(dns(&server).addresses("db.test", 5432).expect("a name"));
    until(&kept, &[A]).await;
    until(&emptied, &[A]).await;
    server.set_hosts("10.0.0.3 other.test");
    until(&emptied, &[]).await;
    events.reach(2, "the name has no records, the servers stay").await;
    assert_eq!(table(&kept.status()), expected(&[A]));
    assert_eq!(events.count("the name has no records, the servers stay"), 2, "one warning for each pool");
    assert_eq!(events.count("the name has had no records for long, the servers are removed"), 1);
    server.set_hosts("10.0.0.2 db.test");
    until(&emptied, &[B]).await;
    until(&kept, &[B]).await;
}

#[tokio::test]
async fn priorities_become_tiers_and_targets_the_names_for_tls() {
    let record = |target, priority, weight| format!("srv-host=_db._tcp.test,{target}.test,5432,{priority},{weight}");
    let config = [record("a", 10, 3), record("b", 10, 7), record("c", 20, 0)].join("\n");
    let hosts = "10.0.0.1 a.test\n10.0.0.2 b.test\n10.0.0.3 c.test\n10.0.0.4 d.test";
    let Some(mut server) = dnsmasq(hosts, &config) else { return };
    let (pool, _follow) = pool(dns(&server).services("_db._tcp.test").expect("a name"));
    until(&pool, &[("10.0.0.1:5432", 0, 3), ("10.0.0.2:5432", 0, 7), ("10.0.0.3:5432", 1, 1)]).await;
    let conn = pool.acquire().await.expect("a server");
    let name = if conn.address() == A.0 { "a.test" } else { "b.test" };
    assert_eq!(conn.tag_value(TLS_SERVER_NAME), Some(name));
    conn.release();
    // One that comes before both, and one that goes.
    server.set_config(&[record("d", 5, 1), record("a", 10, 3), record("c", 20, 0)].join("\n"));
    until(&pool, &[("10.0.0.1:5432", 1, 3), ("10.0.0.3:5432", 2, 1), ("10.0.0.4:5432", 0, 1)]).await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_into_a_datagram_is_whole() {
    let line = |n| format!("10.0.1.{n} db.test\n");
    let Some(server) = dnsmasq(&(0..200).map(line).collect::<String>(), "") else { return };
    let (pool, _follow) = pool(dns(&server).addresses("db.test", 1).expect("a name"));
    let addresses: Vec<_> = (0..200).map(|n| format!("10.0.1.{n}:1")).collect();
    let servers: Vec<_> = addresses.iter().map(|address| (&**address, 0, 1)).collect();
    until(&pool, &servers).await;
}

#[tokio::test]
async fn the_next_name_server_is_asked_if_the_first_is_dead_or_refuses() {
    // A name outside its domain that it does not know is refused.
    let Some(refuses) = dnsmasq("", "") else { return };
    let Some(server) = dnsmasq("10.0.0.1 db.example", "") else { return };
    let dead = ([127, 0, 0, 1], free_port()).into();
    let three = [refuses.socket_address(), dead, server.socket_address()];
    let dns = Dns::name_servers(three).min_interval(STEP).query_timeout(30 * STEP);
    let (pool, _follow) = pool(dns.addresses("db.example", 5432).expect("a name"));
    until(&pool, &[A]).await;
}

#[tokio::test]
async fn look_ups_leave_no_task_behind() {
    let Some(server) = dnsmasq("10.0.0.1 db.test", "log-queries") else { return };
    let (pool, _follow) = pool(dns(&server).addresses("db.test", 5432).expect("a name"));
    let before = Handle::current().metrics().num_alive_tasks();
    let wait = async {
        while server.output().matches("query[A]").count() < 50 {
            sleep(STEP).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("50 look-ups");
    let alive = Handle::current().metrics().num_alive_tasks();
    assert!(alive <= before + 8, "{alive} tasks after, {before} before");
    until(&pool, &[A]).await;
}

#[tokio::test]
async fn the_systems_configuration_finds_localhost() {
    match Dns::system().family(AddressFamily::V4).addresses("localhost", 80) {
        Ok(sets) => until(&pool(sets).0, &[("127.0.0.1:80", 0, 1)]).await,
        // A machine without a name server.
        Err(error) => assert!(matches!(error, DnsError::NameServers { .. }), "{error}"),
    }
}

#[tokio::test]
async fn an_ip_address_is_a_server_that_stays() {
    let dns = Dns::name_servers([]);
    let (pool, _follow) = pool(dns.addresses("fd00::2", 5432).expect("an address"));
    until(&pool, &[B6]).await;
    assert!(matches!(dns.addresses("db.test", 5432), Err(DnsError::NameServers { .. })));
}
