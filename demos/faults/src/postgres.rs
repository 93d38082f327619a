//! PostgreSQL: `SELECT` of a text.

use bb8_postgres::PostgresConnectionManager;
use connring::Pool;
use connring_postgres::{PostgresConn, PostgresConnector};
use connring_real_servers::RealServer;
use deadpool_postgres::{ClientWrapper, Manager};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::pools::CONNECT;
use crate::protocol::{Ask, BoxError, Protocol, Reply, request};

/// Sends statements to one server, as a superuser.
pub(crate) struct Postgres(Client);

/// The settings of a server, and those of the clients, who are another user: a superuser has no limit.
fn config(user: &str) -> Config {
    let mut config = Config::new();
    config.user(user).dbname("postgres").connect_timeout(CONNECT);
    config
}

fn config_at(address: &str, user: &str) -> Config {
    let (host, port) = address.rsplit_once(':').expect("a host and a port");
    let mut config = config(user);
    config.host(host).port(port.parse().expect("a port"));
    config
}

async fn select(client: &Client, text: &str) -> Result<String, BoxError> {
    // The text has no quote.
    let messages = client.simple_query(&format!("SELECT '{text}'")).await?;
    let answer = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(answer.ok_or("no row")?.to_owned())
}

impl Ask for PostgresConn {
    async fn ask(&mut self, text: &str) -> Result<String, BoxError> {
        select(self, text).await
    }
}

impl Ask for ClientWrapper {
    async fn ask(&mut self, text: &str) -> Result<String, BoxError> {
        select(self, text).await
    }
}

impl Ask for Client {
    async fn ask(&mut self, text: &str) -> Result<String, BoxError> {
        select(self, text).await
    }
}

impl Protocol for Postgres {
    const NAME: &str = "PostgreSQL";
    const CLOSES: &str = "pg_terminate_backend";
    const LIMITS: &str = "CONNECTION LIMIT";
    type Connector = PostgresConnector;
    type Client = Pool<PostgresConnector>;
    type Deadpool = Manager;
    type Bb8 = PostgresConnectionManager<NoTls>;

    fn start() -> Option<RealServer> {
        connring_real_servers::postgres()
    }

    async fn prepare(server: &RealServer) -> Result<(), BoxError> {
        Ok(Self::administer(server).await?.0.batch_execute("CREATE ROLE app LOGIN").await?)
    }

    fn connector() -> PostgresConnector {
        PostgresConnector::new(config("app"))
    }

    fn client(pool: Pool<PostgresConnector>) -> Self::Client {
        pool
    }

    async fn request(pool: &Self::Client, text: &str) -> Result<Reply, ()> {
        request(pool, text).await
    }

    fn deadpool(address: &str) -> Manager {
        Manager::new(config_at(address, "app"), NoTls)
    }

    fn bb8(address: &str) -> Self::Bb8 {
        PostgresConnectionManager::new(config_at(address, "app"), NoTls)
    }

    async fn administer(server: &RealServer) -> Result<Self, BoxError> {
        let (client, connection) = config_at(&server.address(), "postgres").connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    async fn close_all(&mut self, _: &RealServer) -> Result<(), BoxError> {
        let statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
        Ok(self.0.batch_execute(statement).await?)
    }

    async fn set_limited(&mut self, _: &RealServer, is_limited: bool) -> Result<(), BoxError> {
        let limit = if is_limited { 4 } else { -1 };
        Ok(self.0.batch_execute(&format!("ALTER ROLE app CONNECTION LIMIT {limit}")).await?)
    }
}
