//! A connector of your own: it logs in, and its client knows where answers end, so that a connection is reused although
//! its caller dropped it, unless a request was cut short.
//!
//! Run it with `cargo run --example own_connector`. The server runs in this program.

use std::io;
use std::time::Duration;

use connring::{AfterUse, ConnInfo, Connector, Ended, Pool, PooledConn, Server, TcpConnector};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Sends a line and reads a line as its answer.
struct Client {
    stream: BufReader<TcpStream>,
    /// The answer to the last request was not read to its end.
    is_waiting: bool,
}

impl Client {
    async fn ask(&mut self, request: &str) -> io::Result<String> {
        self.is_waiting = true;
        self.stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).await?;
        self.is_waiting = !answer.ends_with('\n');
        if self.is_waiting { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer.trim().to_owned()) }
    }
}

struct Login(TcpConnector);

impl Connector for Login {
    type Conn = Client;
    type Error = io::Error;

    async fn connect(&self, server: &Server) -> io::Result<Client> {
        let mut client = Client { stream: BufReader::new(self.0.connect(server).await?), is_waiting: false };
        let answer = client.ask("login secret").await?;
        if answer == "welcome" { Ok(client) } else { Err(io::Error::other(answer)) }
    }

    fn is_reusable(&self, client: &mut Client, info: &ConnInfo) -> bool {
        client.stream.buffer().is_empty() && self.0.is_reusable(client.stream.get_mut(), info)
    }

    // Whether it was released or dropped: the client knows better.
    fn after_use(&self, client: &mut Client, _ended: Ended) -> AfterUse {
        if client.is_waiting { AfterUse::Close } else { AfterUse::Reuse }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let pool = Pool::builder(Login(TcpConnector::new())).server(listener.local_addr()?).build()?;
    tokio::spawn(serve(listener));
    for (request, uses) in [("hello", 0), ("hello again", 1), ("sleep", 2), ("good morning", 0)] {
        let mut client = pool.acquire().await?;
        let answer = timeout(Duration::from_millis(500), client.ask(request)).await;
        println!("{request:?} on a connection that was used {uses} times before: {answer:?}");
        assert_eq!(PooledConn::info(&client).uses(), uses);
        // Dropped here. The next one reuses it, unless its answer did not come in time.
    }
    Ok(())
}

/// Serves one connection after the other. Answers each line but "sleep".
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line != "sleep" {
                let _ = lines.get_mut().write_all(b"welcome\n").await;
            }
        }
    }
}
