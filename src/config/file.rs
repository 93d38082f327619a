//! Settings in a file.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::value::Value;
use super::{PoolConfig, Setting, Visit};
use crate::keyed::{Keyed, Keys};
use crate::server::Server;

/// From a table whose keys are the names of the fields. Other keys are refused. An error names the key and the value.
/// Feature `serde`.
impl<'de> Deserialize<'de> for PoolConfig {
    fn deserialize<D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        // As a struct, so that it can be flattened into a larger one.
        table.deserialize_struct("PoolConfig", Self::KEYS, Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = PoolConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings of a pool")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<PoolConfig, A::Error> {
        let mut config = PoolConfig::default();
        let mut keys = Keys::new(PoolConfig::KEYS);
        while let Some(key) = keys.next(&mut table)? {
            config.visit(&mut ReadOne { key, table: &mut table, error: PhantomData })?;
        }
        Ok(config)
    }
}

/// Reads the value of one key.
struct ReadOne<'a, 'de, A: MapAccess<'de>> {
    key: &'static str,
    table: &'a mut A,
    error: PhantomData<&'de ()>,
}

impl<'de, A: MapAccess<'de>> Visit for ReadOne<'_, 'de, A> {
    type Error = A::Error;

    fn setting<T: Value>(&mut self, setting: Setting<'_, T>) -> Result<(), A::Error> {
        if setting.key == self.key {
            let value: InFile<T> = match self.key {
                // Its entries name their own keys, so that a format shows the line of the entry, not of the list.
                "servers" => self.table.next_value()?,
                key => self.table.next_value_seed(Keyed::new("", key))?,
            };
            *setting.value = Some(value.0);
        }
        Ok(())
    }
}

/// A value as it stands in a file.
struct InFile<T>(T);

impl<'de, T: Value> Deserialize<'de> for InFile<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::read(from).map(Self)
    }
}

impl<T: Value> Serialize for InFile<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write(to)
    }
}

/// As a table of the settings that are given. Feature `serde`.
impl Serialize for PoolConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut table = to.serialize_map(None)?;
        self.clone().visit(&mut Write(&mut table))?;
        table.end()
    }
}

struct Write<'a, M>(&'a mut M);

impl<M: SerializeMap> Visit for Write<'_, M> {
    type Error = M::Error;

    fn setting<T: Value>(&mut self, setting: Setting<'_, T>) -> Result<(), M::Error> {
        setting.value.take().map_or(Ok(()), |value| self.0.serialize_entry(setting.key, &InFile(value)))
    }
}

/// Reads a list of servers. Unlike that of a `Vec`, its error names the key.
pub(super) fn read_servers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Server>, D::Error> {
    from.deserialize_seq(Servers)
}

struct Servers;

impl<'de> Visitor<'de> for Servers {
    type Value = Vec<Server>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("servers, a list of addresses and tables")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Server>, A::Error> {
        let mut servers = Vec::new();
        while let Some(server) = list.next_element()? {
            servers.push(server);
        }
        Ok(servers)
    }
}

/// Reads a value that is a text.
pub(super) fn read_text<'de, T: Value, D: Deserializer<'de>>(from: D, expected: &str) -> Result<T, D::Error> {
    from.deserialize_str(Text { expected, value: PhantomData })
}

struct Text<'a, T> {
    expected: &'a str,
    value: PhantomData<T>,
}

impl<T: Value> Visitor<'_> for Text<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
