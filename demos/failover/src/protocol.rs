//! Requests and the answers expected to them.

use std::io::Write;
use std::str::FromStr;

/// The templates of a request and of its answer.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) send: Template,
    /// The start of the answer. The answer ends with the line in which this text ends.
    pub(crate) expect: Template,
}

/// A text with placeholders for the parts that differ between requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    /// The number of the request.
    Id,
    /// The address of the server.
    Server,
}

/// The verdict on the bytes received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The start of the expected answer.
    Unfinished,
    /// The complete answer, and nothing after it.
    Right,
    /// Any other bytes.
    Wrong,
}

impl Protocol {
    /// Returns the protocol of [`OwnServer`](crate::servers::OwnServer): the answer is the number and the server's
    /// address.
    pub(crate) fn of_own_servers() -> Self {
        let bytes = |text: &str| Part::Bytes(text.into());
        Self {
            send: Template(vec![Part::Id, bytes("\n")]),
            expect: Template(vec![Part::Id, bytes(" "), Part::Server, bytes("\n")]),
        }
    }
}

impl Template {
    /// Replaces the content of `into` with the text for one request.
    pub(crate) fn fill(&self, id: u64, server: &str, into: &mut Vec<u8>) {
        into.clear();
        for part in &self.0 {
            match part {
                Part::Bytes(bytes) => into.extend_from_slice(bytes),
                Part::Id => write!(into, "{id}").expect("writing to a vector does not fail"),
                Part::Server => into.extend_from_slice(server.as_bytes()),
            }
        }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for (index, literal) in text.split("{id}").enumerate() {
            if index > 0 {
                parts.push(Part::Id);
            }
            parts.push(Part::Bytes(unescape(literal)?));
        }
        Ok(Self(parts))
    }
}

/// Replaces the escapes `\r`, `\n`, `\t`, `\\` and `\xNN` with their bytes.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match escape.bytes().next() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => {
                let digits = escape.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let digits = digits.ok_or_else(|| format!("\\x needs two hexadecimal digits in {text:?}"))?;
                (u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?, 3)
            }
            _ => return Err(format!("unknown escape in {text:?}: the escapes are \\r \\n \\t \\\\ \\xNN")),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Classifies the bytes `got` of an answer that must start with `expected`.
pub(crate) fn judge(expected: &[u8], got: &[u8]) -> Answer {
    let both = expected.len().min(got.len());
    if expected[..both] != got[..both] {
        return Answer::Wrong;
    }
    if got.len() < expected.len() {
        return Answer::Unfinished;
    }
    let rest_of_line = &got[expected.len()..];
    let rest_len = match (expected.last(), rest_of_line.iter().position(|&byte| byte == b'\n')) {
        (Some(b'\n'), _) => 0,
        (_, Some(newline)) => newline + 1,
        (_, None) => return Answer::Unfinished,
    };
    if rest_of_line.len() == rest_len { Answer::Right } else { Answer::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        text.parse::<Template>()?.fill(1_234_567_890, "a:1", &mut bytes);
        Ok(bytes)
    }

    #[test]
    fn fills_in_escapes_and_ids() {
        assert_eq!(filled(r"PING\r\n").unwrap(), b"PING\r\n");
        assert_eq!(filled(r"$10\r\n{id}\r\n").unwrap(), b"$10\r\n1234567890\r\n");
        assert_eq!(filled(r"\x00\xfF\t\\n{id}{id}").unwrap(), b"\x00\xff\t\\n12345678901234567890");
        for bad in [r"\", r"\q", r"\x", r"\x1", r"\x+1", r"\xé"] {
            assert!(filled(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accepts_only_a_whole_answer_without_trailing_bytes() {
        for (expected, got, answer) in [
            ("7 a:1\n", "7 a:1\n", Answer::Right),
            ("7 a:1\n", "7 a:", Answer::Unfinished),
            ("7 a:1\n", "7 a:2", Answer::Wrong),
            ("7 a:1\n", "7\n", Answer::Wrong),
            ("7 a:1\n", "7 a:1\n8", Answer::Wrong),
            ("+PONG", "+PONG", Answer::Unfinished),
            ("+PONG", "+PONG\r\n", Answer::Right),
            ("+PONG", "+PONG\r\n+PONG\r\n", Answer::Wrong),
            ("+PONG", "-LOADING", Answer::Wrong),
            ("$1\r\n7\r\n", "$1\r\n7\r\n", Answer::Right),
            ("", "anything\n", Answer::Right),
        ] {
            assert_eq!(judge(expected.as_bytes(), got.as_bytes()), answer, "{expected:?} {got:?}");
        }
    }
}
