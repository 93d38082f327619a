//! The maximum, counted by the connector or by the server, under callers that act at random.

use super::*;

/// A connector that counts open connections. Its attempts are slow, fail or hang, as drawn from their number.
#[derive(Clone)]
struct Meter {
    gauges: Arc<[Gauge]>,
    attempts: Arc<AtomicU64>,
    /// Whether all attempts succeed immediately.
    calm: bool,
}

#[derive(Default)]
struct Gauge {
    open: AtomicU32,
    most: AtomicU32,
}

/// A running attempt or an open connection, counted until it is dropped.
struct Counted {
    gauges: Arc<[Gauge]>,
    index: usize,
}

struct MeteredConn {
    counted: Option<Counted>,
    uses: u64,
}

impl Meter {
    fn new(servers: usize) -> Self {
        let gauges = (0..servers).map(|_| Gauge::default()).collect();
        Self { gauges, attempts: Arc::default(), calm: false }
    }

    fn count(&self, index: usize) -> Counted {
        let gauge = &self.gauges[index];
        let open = gauge.open.fetch_add(1, Ordering::SeqCst) + 1;
        gauge.most.fetch_max(open, Ordering::SeqCst);
        Counted { gauges: Arc::clone(&self.gauges), index }
    }

    fn open(&self) -> Vec<u32> {
        self.gauges.iter().map(|gauge| gauge.open.load(Ordering::SeqCst)).collect()
    }

    fn most(&self) -> Vec<u32> {
        self.gauges.iter().map(|gauge| gauge.most.load(Ordering::SeqCst)).collect()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauges[self.index].open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connector for Meter {
    type Conn = MeteredConn;
    type Error = io::Error;

    async fn connect(&self, server: &connring::Server) -> io::Result<MeteredConn> {
        let counted = self.count(server.address().parse().expect("an address is an index"));
        if self.calm {
            return Ok(MeteredConn { counted: Some(counted), uses: 0 });
        }
        let mut random = Random(self.attempts.fetch_add(1, Ordering::SeqCst));
        for _ in 0..random.below(4) {
            yield_now().await;
        }
        match random.below(16) {
            0 => Err(io::ErrorKind::ConnectionRefused.into()),
            1 => pending().await,
            _ => Ok(MeteredConn { counted: Some(counted), uses: 0 }),
        }
    }

    fn is_reusable(&self, conn: &mut MeteredConn, _: &connring::ConnInfo) -> bool {
        conn.uses += 1;
        conn.uses < 16
    }
}

/// A caller that acquires by every call and ends its connections in every way.
async fn chaotic_caller(pool: Pool<Meter>, mut random: Random) {
    for _ in 0..100 {
        let acquired = match random.below(4) {
            0 => pool.try_acquire().ok(),
            1 => poll_at_most(random.below(6), pool.acquire_now()).await,
            2 => poll_at_most(random.below(6), pool.acquire()).await,
            _ => pool.acquire_timeout(MILLISECOND * 50).await.ok(),
        };
        let Some(mut conn) = acquired else {
            yield_now().await;
            continue;
        };
        for _ in 0..random.below(3) {
            yield_now().await;
        }
        match random.below(10) {
            0 => drop(conn),
            1 => conn.discard(),
            2 => conn.fail("random failure"),
            3 => {
                // A detached connection no longer counts against the pool's maximum.
                conn.counted = None;
                drop(conn.detach());
            }
            _ => conn.release(),
        }
    }
}

/// Runs 64 chaotic callers on three servers, and advances a manual clock until they have ended.
async fn chaos(seed: u64) {
    let max_conns = [1, 3, 7];
    let meter = Meter::new(max_conns.len());
    let clock = Clock::manual();
    let servers = max_conns.iter().enumerate();
    let pool = Pool::builder(meter.clone())
        .clock(clock.clone())
        .servers(servers.map(|(index, &max_conns)| Server::new(index.to_string()).max_conns(max_conns)))
        .backoff(MILLISECOND, MILLISECOND * 4)
        .backoff_spread_ratio(0.0)
        .max_lifetime_jitter_ratio(0.0)
        .connect_timeout(MILLISECOND * 20)
        .hedge_delay(MILLISECOND * 3)
        .build()
        .expect("the settings are in range");
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        callers.spawn(chaotic_caller(pool.clone(), Random(seed << 32 | caller)));
    }
    loop {
        while let Some(ended) = callers.try_join_next() {
            ended.expect("no caller panics");
        }
        let connecting: u32 = pool.status().servers.iter().map(|server| server.connecting).sum();
        if callers.is_empty() && connecting == 0 {
            break;
        }
        clock.advance(MILLISECOND);
        yield_now().await;
    }
    // An attempt no longer counts as connecting a moment before its connection is idle.
    for _ in 0..10_000 {
        if pool.status().servers.iter().all(|server| server.in_use == 0) {
            break;
        }
        yield_now().await;
    }
    assert_eq!(meter.most(), max_conns, "seed {seed}: the most open connections reach the maximum");
    for (server, open) in pool.status().servers.iter().zip(meter.open()) {
        assert_eq!((server.open, server.idle as u32, server.in_use), (open, open, 0), "seed {seed}: {server:?}");
    }
    drop(pool);
    settle().await;
    assert_eq!(meter.open(), [0, 0, 0], "seed {seed}");
}

#[tokio::test]
async fn maximum_holds_under_chaos() {
    for seed in 0..8 {
        chaos(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn maximum_holds_under_chaos_on_many_threads() {
    for seed in 8..16 {
        chaos(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn maximum_holds_while_many_threads_connect() {
    let meter = Meter { calm: true, ..Meter::new(1) };
    let pool = Pool::builder(meter.clone()).clock(Clock::manual()).server("0").max_conns_per_server(1).build();
    let pool = pool.expect("the settings are in range");
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let pool = pool.clone();
        callers.spawn(async move {
            let mut served = 0;
            while served < 500 {
                match pool.acquire_now().await {
                    Ok(conn) => {
                        // Long enough that a second connection would overlap.
                        for _ in 0..4 {
                            yield_now().await;
                        }
                        drop(conn);
                        served += 1;
                    }
                    Err(_) => yield_now().await,
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(meter.most(), [1]);
}

#[derive(Default)]
struct Accepted {
    open: AtomicU32,
    most: AtomicU32,
    ever: AtomicU32,
}

/// Accepts connections and echoes each message.
async fn echo(listener: TcpListener, accepted: Arc<Accepted>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        accepted.ever.fetch_add(1, Ordering::SeqCst);
        let open = accepted.open.fetch_add(1, Ordering::SeqCst) + 1;
        accepted.most.fetch_max(open, Ordering::SeqCst);
        let accepted = Arc::clone(&accepted);
        tokio::spawn(async move {
            let mut message = [0; 8];
            while stream.read_exact(&mut message).await.is_ok() {
                stream.write_all(&message).await.expect("the client reads");
            }
            accepted.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_server_sees_at_most_maximum_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let accepted = Arc::new(Accepted::default());
    let server = tokio::spawn(echo(listener, Arc::clone(&accepted)));
    let pool = Pool::builder(TcpConnector::new())
        .server(address)
        .max_conns_per_server(4)
        .build()
        .expect("the settings are in range");
    let mut callers = JoinSet::new();
    for caller in 0..64_u64 {
        let pool = pool.clone();
        callers.spawn(async move {
            for round in 0..20 {
                let mut conn: PooledConn<TcpConnector> = pool.acquire().await.expect("the server listens");
                let (sent, mut received) = ((caller << 32 | round).to_be_bytes(), [0; 8]);
                let stream: &mut TcpStream = &mut conn;
                stream.write_all(&sent).await.expect("the server reads");
                stream.read_exact(&mut received).await.expect("the server answers");
                assert_eq!(sent, received, "no other caller uses the connection");
                conn.release();
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("each caller was served");
    }
    // Callers only release connections, so none is closed or reopened.
    let seen = [&accepted.ever, &accepted.most, &accepted.open].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(seen, [4; 3], "ever accepted, most open, open");
    server.abort();
}
