//! A connection: requests and answers of the crate redis on a stream of ours.

use std::io;

use futures_util::future::try_join;
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value, parse_redis_value_async};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;

use crate::command::{Effect, cannot_serve, has_ended};

/// A connection to Redis, for one request at a time. Commands and pipelines of the crate `redis` run on it:
/// `cmd.query_async(&mut *conn)`, or `conn.get("key")` with [`redis::AsyncCommands`].
///
/// It speaks RESP2 and reads the answers itself, in the task of the request: it has no task of its own. So each request
/// gets its own answer, and a connection knows whether an answer is outstanding.
///
/// These commands are refused, since they are not answered exactly once or change the protocol: `SUBSCRIBE` and its
/// variants, `MONITOR`, `HELLO`, `QUIT`, `CLIENT REPLY`, `SCRIPT DEBUG`, `SYNC`, `PSYNC` and `REPLCONF`. For Pub/Sub
/// use [`redis::Client::get_async_pubsub`]. [`Cmd::set_no_response`] changes nothing: the answer is awaited.
///
/// # Cancel safety
///
/// A request may be dropped at any await point. What it changed is unknown then, and the connection sends no further
/// request and is closed when it is dropped or released.
///
/// # Errors
///
/// A request fails with [`redis::ErrorKind::Client`] if a command is refused; nothing is sent then. It fails with
/// [`redis::ErrorKind::Io`] or [`redis::ErrorKind::Parse`] if the connection fails, or if an earlier request on it was
/// cut short. All others are answers of the server; of a transaction that was not executed, the first error is
/// returned.
#[derive(Debug)]
pub struct RedisConn<S = TcpStream> {
    pub(crate) stream: S,
    database: i64,
    /// A request was sent, and not all of its answer was read.
    is_cut_short: bool,
    /// A transaction may be open, or keys may be watched.
    in_transaction: bool,
    /// A setting may differ from those of a new connection, or the server said that it cannot serve.
    needs_reset: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RedisConn<S> {
    pub(crate) fn new(stream: S, database: i64) -> Self {
        Self { stream, database, is_cut_short: false, in_transaction: false, needs_reset: false }
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// Whether the next caller would see something that this one has left.
    pub(crate) fn has_state(&self) -> bool {
        self.in_transaction || self.needs_reset
    }

    /// The connection is of no use any more.
    pub(crate) fn cut_short(&mut self) {
        self.is_cut_short = true;
    }

    /// `RESET` was answered, and the login after it.
    pub(crate) fn was_reset(&mut self) {
        (self.in_transaction, self.needs_reset) = (false, false);
    }

    /// Sends requests and reads one answer to each.
    pub(crate) async fn exchange(&mut self, requests: &[u8], answers: usize) -> RedisResult<Vec<Value>> {
        if self.is_cut_short {
            let text = "an earlier request on this connection was cut short";
            return Err(io::Error::new(io::ErrorKind::NotConnected, text).into());
        }
        self.is_cut_short = true;
        let (mut reader, mut writer) = split(&mut self.stream);
        // Both at once: a proxy may stop reading requests until some of its answers are read.
        let write = async {
            writer.write_all(requests).await?;
            writer.flush().await.map_err(RedisError::from)
        };
        let read = async {
            let mut decoder = Default::default();
            let mut values = Vec::with_capacity(answers);
            for _ in 0..answers {
                let value = parse_redis_value_async(&mut decoder, &mut reader).await?;
                if let Value::Push { .. } | Value::Attribute { .. } = value {
                    let text = "the server sent what is no answer";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
                }
                values.push(value);
            }
            if !decoder.buffer().is_empty() {
                let text = "the server sent more answers than there were requests";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
            }
            Ok(values)
        };
        let ((), values) = try_join(write, read).await?;
        self.is_cut_short = false;
        self.needs_reset |= values.iter().any(cannot_serve);
        Ok(values)
    }

    fn note(&mut self, effect: Effect, answer: &Value) {
        match effect {
            Effect::None => {}
            Effect::Setting => self.needs_reset = true,
            Effect::Opens => self.in_transaction = true,
            Effect::Ends => self.in_transaction &= !has_ended(answer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ConnectionLike for RedisConn<S> {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let effect = Effect::of(cmd)?;
            let mut answers = self.exchange(&cmd.get_packed_command(), 1).await?;
            let answer = answers.pop().expect("one answer was asked for");
            self.note(effect, &answer);
            Ok(answer)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let mut effects = pipeline.cmd_iter().map(Effect::of).collect::<RedisResult<Vec<_>>>()?;
            if pipeline.is_transaction() {
                effects.insert(0, Effect::Opens);
                effects.push(Effect::Ends);
            }
            let mut answers = self.exchange(&pipeline.get_packed_pipeline(), effects.len()).await?;
            for (effect, answer) in effects.into_iter().zip(&answers) {
                self.note(effect, answer);
            }
            if pipeline.is_transaction() {
                // The first one is the cause: `EXECABORT` comes after it.
                let error = answers.iter().find_map(|answer| match answer {
                    Value::ServerError(error) => Some(error),
                    _ => None,
                });
                if let Some(error) = error {
                    return Err(error.clone().into());
                }
            }
            answers.drain(..offset.min(answers.len()));
            answers.truncate(count);
            Ok(answers)
        })
    }

    fn get_db(&self) -> i64 {
        self.database
    }
}
