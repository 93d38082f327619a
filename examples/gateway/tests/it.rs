//! The gateway between clients and real servers.

#![allow(clippy::disallowed_methods, reason = "real servers take real time")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use connring_real_servers::{RealServer, free_port, nginx};
use rustix::process::Signal;

/// How long what must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a gateway, with its pages at a port that is returned.
fn gateway(servers: &[String], more: &[&str]) -> (RealServer, SocketAddr) {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let more: Vec<_> = more.iter().map(|&argument| argument.to_owned()).collect();
    let servers = servers.join(",");
    let gateway = RealServer::start("gateway", move |_, port| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("--listen").arg(format!("127.0.0.1:{port}")).arg("--admin").arg(admin.to_string());
        command.arg("--servers").arg(&servers).args(&more);
        command
    });
    (gateway, admin)
}

/// A client's connection.
struct Client(TcpStream);

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Sends a request with these lines and returns the head and the body of its response.
    fn ask(&mut self, lines: &str) -> (String, String) {
        // In one packet.
        self.0.write_all(format!("{lines}\r\nHost: gateway\r\n\r\n").as_bytes()).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split_once("content-length: ").expect("a length").1.lines().next().unwrap().parse();
        let mut body = vec![0; length.unwrap()];
        self.0.read_exact(&mut body).expect("a whole answer");
        (head, String::from_utf8(body).unwrap())
    }

    fn get(&mut self, path: &str) -> (String, String) {
        self.ask(&format!("GET {path} HTTP/1.1"))
    }
}

/// Waits until a condition holds.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server that reads requests and counts them, but closes instead of an answer.
fn closing_server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Closes after it has counted. A connection without a request does not count.
            let mut stream = stream.unwrap();
            if matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (address.to_string(), requests)
}

/// A server that answers each request after 20 ms. Counts its open connections: now, and the most there were.
fn slow_server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, most) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (open, counted) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, open) = (stream.unwrap(), Arc::clone(&open));
            counted.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::spawn(move || {
                while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                    thread::sleep(Duration::from_millis(20));
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address.to_string(), most)
}

#[test]
fn a_server_gets_no_more_connections_and_no_higher_rate_than_was_set() {
    let (server, most) = slow_server();
    let (gateway, _) = gateway(&[server], &["--max-conns-per-server", "2", "--max-rps", "20"]);
    let (address, began) = (gateway.socket_address(), Instant::now());
    let clients = (0..8).map(|_| {
        thread::spawn(move || {
            let mut client = Client::new(address);
            for _ in 0..5 {
                assert_eq!(client.get("/").1, "ok");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().for_each(|client| client.join().expect("each GET is answered"));
    assert_eq!(most.load(Ordering::SeqCst), 2);
    // Of 40 requests, 20 a second.
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn no_get_fails_while_one_of_three_servers_is_killed_and_comes_back() {
    let start = || nginx("location / { return 200 $uri; }");
    let (Some(mut one), Some(two), Some(three)) = (start(), start(), start()) else { return };
    let (gateway, admin) = gateway(&[&one, &two, &three].map(RealServer::address), &["--check", "/health"]);
    let (address, is_over, answers) =
        (gateway.socket_address(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
            thread::spawn(move || {
                let mut connection = Client::new(address);
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = format!("/{client}/{number}");
                    let (head, body) = connection.get(&path);
                    assert!(head.starts_with("http/1.1 200 "), "{head}{body}");
                    assert_eq!(body, path);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = |by: usize| {
        let goal = answers.load(Ordering::Relaxed) + by;
        until("more answers", || answers.load(Ordering::Relaxed) >= goal || clients.iter().any(|c| c.is_finished()));
    };
    let status = || Client::new(admin).get("/status").1;
    let dying = one.address();
    let is_up = || status().lines().any(|line| line.starts_with(&dying) && line.contains(" up "));
    for _ in 0..3 {
        until("the server is up", is_up);
        more(500);
        one.kill();
        more(500);
        one.start_again();
    }
    until("the server is up", is_up);
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no GET failed");
    }
}

#[test]
fn pages_show_each_server() {
    let Some(server) = nginx("location / { return 200 $uri; }") else { return };
    let file = server.folder().join("gateway.toml");
    std::fs::write(&file, "max_conns_per_server = 7\nconnect_timeout = \"500ms\"\n").unwrap();
    let (gateway, admin) = gateway(&[server.address()], &["--config", file.to_str().unwrap()]);
    assert_eq!(Client::new(gateway.socket_address()).get("/status").1, "/status", "the pages are not in front");
    let mut client = Client::new(admin);
    let status = client.get("/status").1;
    assert!(status.contains(&server.address()) && status.contains("1/7"), "{status}");
    let metrics = client.get("/metrics").1;
    let line = format!("connring_connections_max{{pool=\"gateway\",server=\"{}\"}} 7\n", server.address());
    assert!(metrics.contains(&line), "{metrics}");
    assert!(client.get("/else").0.starts_with("http/1.1 404 "));
}

#[test]
fn headers_are_those_of_a_proxy() {
    let Some(server) = nginx(
        "location / {
            add_header Proxy-Connection keep-alive;
            add_header X-Kept kept;
            return 200 \"$http_x_forwarded_for|$http_connection|$http_te|$http_x_named|$http_x_kept|$http_host\";
        }",
    ) else {
        return;
    };
    let (gateway, _) = gateway(&[server.address()], &[]);
    let mut client = Client::new(gateway.socket_address());
    let lines = "GET / HTTP/1.1\r\nConnection: x-named\r\nTE: trailers\r\nX-Named: 1\r\nX-Kept: 2\r\n\
                 X-Forwarded-For: 192.0.2.1";
    let (head, body) = client.ask(lines);
    assert_eq!(body, "192.0.2.1, 127.0.0.1||||2|gateway");
    assert!(head.contains("x-kept: kept") && !head.contains("proxy-connection"), "{head}");
    write!(client.0, "HEAD / HTTP/1.1\r\nHost: gateway\r\n\r\nGET / HTTP/1.1\r\nHost: gateway\r\n\r\n").unwrap();
    let mut both = [0; 2048];
    let mut length = 0;
    until("both answers", || {
        length += client.0.read(&mut both[length..]).unwrap();
        String::from_utf8_lossy(&both[..length]).matches("HTTP/1.1 200").count() == 2
    });
    let both = String::from_utf8_lossy(&both[..length]).to_lowercase();
    assert_eq!(both.matches("content-length: 21\r\n").count(), 2, "{both}");
}

#[test]
fn request_is_repeated_once_and_only_if_it_is_safe() {
    let (one, requests_of_one) = closing_server();
    let (two, requests_of_two) = closing_server();
    let (gateway, _) = gateway(&[one, two], &[]);
    let mut client = Client::new(gateway.socket_address());
    let requests = || requests_of_one.load(Ordering::Relaxed) + requests_of_two.load(Ordering::Relaxed);
    let mut sent = 0;
    for (lines, tries) in [("GET / HTTP/1.1", 2), ("POST / HTTP/1.1\r\nContent-Length: 0", 1), ("DELETE / HTTP/1.1", 2)]
    {
        let (head, body) = client.ask(lines);
        assert!(head.starts_with("http/1.1 502 "), "{head}{body}");
        sent += tries;
        assert_eq!(requests(), sent, "{lines}");
    }
    write!(client.0, "PUT / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1\r\n\r\nx").unwrap();
    assert!(client.answer().0.starts_with("http/1.1 502 "));
    assert_eq!(requests(), sent + 1, "its body is gone");
}

/// A server that sends half of a response to each request, and then nothing.
fn stalling_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
            }
            kept.push(stream);
        }
    });
    address.to_string()
}

#[test]
fn response_that_stalls_ends_and_counts_as_a_failure_of_its_server() {
    let (gateway, admin) = gateway(&[stalling_server()], &["--body-timeout", "0.2"]);
    let mut client = Client::new(gateway.socket_address());
    write!(client.0, "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n").unwrap();
    let mut response = String::new();
    client.0.read_to_string(&mut response).expect("it ends");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nhalf"), "{response}");
    let status = Client::new(admin).get("/status").1;
    assert!(status.contains("failures 1,"), "{status}");
}

#[test]
fn upload_that_stalls_ends_and_counts_as_no_failure_of_the_server() {
    // It reads the whole request before it looks for a server of its own.
    let Some(nginx) = nginx("location / { proxy_pass http://127.0.0.1:1; }") else { return };
    let (gateway, admin) = gateway(&[nginx.address()], &["--head-timeout", "0.2"]);
    let mut client = Client::new(gateway.socket_address());
    write!(client.0, "POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
    assert!(client.answer().0.starts_with("http/1.1 408 "));
    let status = Client::new(admin).get("/status").1;
    assert!(status.contains("failures 0,"), "{status}");
}

#[test]
fn gateway_without_a_server_says_when_to_come_back() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let (gateway, _) = gateway(&[nowhere], &["--wait-timeout", "50ms"]);
    let (head, body) = Client::new(gateway.socket_address()).get("/");
    assert!(head.starts_with("http/1.1 503 ") && head.contains("retry-after: 1\r\n"), "{head}{body}");
}

#[test]
fn running_request_ends_well_after_sigterm_and_no_new_client_is_accepted() {
    // The body takes longer than the check that no new client is accepted.
    let Some(server) = nginx("location / { root .; limit_rate 50k; }") else { return };
    fs::write(server.folder().join("slow"), "x".repeat(90_000)).unwrap();
    let (gateway, _) = gateway(&[server.address()], &[]);
    let address = gateway.socket_address();
    let mut client = Client::new(address);
    write!(client.0, "GET /slow HTTP/1.1\r\nHost: gateway\r\n\r\n").unwrap();
    client.0.peek(&mut [0]).unwrap();
    gateway.signal(Signal::TERM);
    until("no new client is accepted", || TcpStream::connect(address).is_err());
    assert!(!gateway.output().contains("gateway: closed"), "the request had ended already");
    assert_eq!(client.answer().1.len(), 90_000);
    until("it ends", || gateway.output().contains("gateway: closed"));
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0, "the client is told");
}
