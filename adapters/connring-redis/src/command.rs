//! What commands do to their connection, by name.

use redis::{Arg, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

/// What a command does to the state of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing that the next command would see.
    None,
    /// It changes the database, the user, the name, or another setting that stays.
    Setting,
    /// It opens a transaction, or watches keys for one.
    Opens,
    /// It ends a transaction, unless its answer is an error.
    Ends,
}

impl Effect {
    /// Refuses commands after which an answer no longer belongs to a request: those that are answered more than once,
    /// or not at all, or that change the protocol.
    pub(crate) fn of(cmd: &Cmd) -> Result<Self, RedisError> {
        let mut args = cmd.args_iter();
        let Some(Arg::Simple(name)) = args.next() else {
            return Err((ErrorKind::Client, "empty command").into());
        };
        let subcommand = |word: &str| match args.clone().next() {
            Some(Arg::Simple(arg)) => arg.eq_ignore_ascii_case(word.as_bytes()),
            _ => false,
        };
        // Longer names are none of these.
        let mut upper = [0; 12];
        let Some(upper) = upper.get_mut(..name.len()) else { return Ok(Self::None) };
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        match &*upper {
            b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE" | b"PUNSUBSCRIBE" | b"SUNSUBSCRIBE"
            | b"MONITOR" | b"SYNC" | b"PSYNC" | b"REPLCONF" | b"HELLO" | b"QUIT" => Err(refused(name)),
            b"CLIENT" if subcommand("REPLY") => Err(refused(b"CLIENT REPLY")),
            b"SCRIPT" if subcommand("DEBUG") => Err(refused(b"SCRIPT DEBUG")),
            b"CLIENT" | b"SELECT" | b"AUTH" | b"RESET" | b"READONLY" | b"READWRITE" | b"ASKING" => Ok(Self::Setting),
            b"MULTI" | b"WATCH" => Ok(Self::Opens),
            b"EXEC" | b"DISCARD" | b"UNWATCH" => Ok(Self::Ends),
            _ => Ok(Self::None),
        }
    }
}

fn refused(name: &[u8]) -> RedisError {
    let name = String::from_utf8_lossy(name).into_owned();
    (ErrorKind::Client, "a pooled connection does not send this command", name).into()
}

/// Whether this answer to `EXEC`, `DISCARD` or `UNWATCH` says that no transaction is open and no key is watched.
pub(crate) fn has_ended(answer: &Value) -> bool {
    match answer {
        Value::ServerError(error) => error.kind() == Some(ServerErrorKind::ExecAbort),
        // `UNWATCH` within a transaction.
        Value::SimpleString(text) => text != "QUEUED",
        _ => true,
    }
}

/// Whether an answer says that the server cannot serve, and a `PING` would say the same.
pub(crate) fn cannot_serve(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if matches!(error.code(), "LOADING" | "MASTERDOWN" | "BUSY"))
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    fn effect(words: &str) -> Result<Effect, String> {
        let mut words = words.split(' ');
        let mut cmd = cmd(words.next().unwrap());
        for word in words {
            cmd.arg(word);
        }
        Effect::of(&cmd).map_err(|error| error.detail().unwrap_or_default().to_owned())
    }

    #[test]
    fn commands_are_known_by_name_in_any_case() {
        for words in ["GET key", "PING", "EVALSHA_RO_OR_LONGER x", "CONFIG GET maxclients", "SCRIPT LOAD x", "SCRIPT"] {
            assert_eq!(effect(words), Ok(Effect::None), "{words}");
        }
        for words in ["select 3", "AUTH x", "reset", "CLIENT SETNAME x", "client", "READONLY", "Asking"] {
            assert_eq!(effect(words), Ok(Effect::Setting), "{words}");
        }
        assert_eq!((effect("multi"), effect("WATCH k")), (Ok(Effect::Opens), Ok(Effect::Opens)));
        assert_eq!((effect("exec"), effect("DISCARD"), effect("unwatch")), {
            (Ok(Effect::Ends), Ok(Effect::Ends), Ok(Effect::Ends))
        });
    }

    #[test]
    fn commands_without_exactly_one_answer_are_refused_by_name() {
        for name in ["subscribe", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "Monitor", "HELLO", "QUIT", "REPLCONF"] {
            assert_eq!(effect(name), Err(name.to_owned()));
        }
        assert_eq!(effect("client reply off"), Err("CLIENT REPLY".to_owned()));
        assert_eq!(effect("script DEBUG yes"), Err("SCRIPT DEBUG".to_owned()));
        assert!(Effect::of(&Cmd::new()).is_err(), "it has no answer");
    }

    #[test]
    fn transaction_has_ended_unless_the_answer_is_an_error_or_queued() {
        let parse = |answer: &str| redis::parse_redis_value(answer.as_bytes()).unwrap();
        for answer in ["*1\r\n:1\r\n", "*-1\r\n", "+OK\r\n", "-EXECABORT Transaction discarded\r\n"] {
            assert!(has_ended(&parse(answer)), "{answer}");
        }
        for answer in ["+QUEUED\r\n", "-ERR EXEC without MULTI\r\n", "-NOPERM no permission\r\n"] {
            assert!(!has_ended(&parse(answer)), "{answer}");
        }
    }
}
