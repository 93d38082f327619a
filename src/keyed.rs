//! Tables of a file: their keys, and values whose errors name the key.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

/// The keys that a table may have, each once.
pub(crate) struct Keys {
    known: &'static [&'static str],
    seen: Vec<&'static str>,
}

impl Keys {
    pub(crate) fn new(known: &'static [&'static str]) -> Self {
        Self { known, seen: Vec::new() }
    }

    /// The next key of a table, whose value is read next.
    pub(crate) fn next<'de, A: MapAccess<'de>>(&mut self, table: &mut A) -> Result<Option<&'static str>, A::Error> {
        table.next_key_seed(self)
    }
}

// The error of an unknown key comes from the key's own deserializer, which knows its place in the file.
impl<'de> DeserializeSeed<'de> for &mut Keys {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<&'static str, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl Visitor<'_> for &mut Keys {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a setting")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<&'static str, E> {
        let known = self.known.iter().find(|known| **known == key);
        let key = *known.ok_or_else(|| E::unknown_field(key, self.known))?;
        if self.seen.contains(&key) {
            return Err(E::duplicate_field(key));
        }
        self.seen.push(key);
        Ok(key)
    }
}

/// A value whose errors begin with its key. Not all formats name it.
pub(crate) struct Keyed<T> {
    /// What stands before the key.
    of: &'static str,
    key: &'static str,
    value: PhantomData<T>,
}

impl<T> Keyed<T> {
    pub(crate) fn new(of: &'static str, key: &'static str) -> Self {
        Self { of, key, value: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Keyed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<T, D::Error> {
        T::deserialize(value).map_err(|error| {
            // Formats add lines that show the place. They do so for the new error, too.
            let error = error.to_string();
            let reason = error.split('\n').next().unwrap_or_default();
            D::Error::custom(format_args!("{}{}: {reason}", self.of, self.key))
        })
    }
}
