//! A server in a file: its address as a text, or a table.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Server;
use crate::keyed::{Keyed, Keys};
use crate::sync::BTreeMap;

const KEYS: &[&str] = &["name", "address", "max_conns", "max_rps", "burst", "weight", "tier", "tags"];

/// From a text, which is its address, or from a table with the key `address` and any of `name`, `max_conns`, `max_rps`,
/// `burst`, `weight`, `tier` and `tags`, a table of texts. Other keys are refused. Feature `serde`.
impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(entry: D) -> Result<Self, D::Error> {
        entry.deserialize_any(Entry)
    }
}

struct Entry;

impl<'de> Visitor<'de> for Entry {
    type Value = Server;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server: its address as text, or a table")
    }

    fn visit_str<E: Error>(self, address: &str) -> Result<Server, E> {
        Ok(Server::new(address))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Server, A::Error> {
        let mut keys = Keys::new(KEYS);
        let (mut name, mut address, mut server) = (None, None, Server::new(""));
        while let Some(key) = keys.next(&mut table)? {
            match key {
                "name" => name = Some(table.next_value_seed(Keyed::<String>::new("server ", key))?),
                "address" => address = Some(table.next_value_seed(Keyed::<String>::new("server ", key))?),
                "max_conns" => server.max_conns = Some(table.next_value_seed(Keyed::new("server ", key))?),
                "max_rps" => server.max_rps = Some(table.next_value_seed(Keyed::new("server ", key))?),
                "burst" => server.burst = Some(table.next_value_seed(Keyed::new("server ", key))?),
                "weight" => server.weight = table.next_value_seed(Keyed::new("server ", key))?,
                "tier" => server.tier = table.next_value_seed(Keyed::new("server ", key))?,
                _ => {
                    let tags: BTreeMap<String, String> = table.next_value_seed(Keyed::new("server ", key))?;
                    server.tags = tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
                }
            }
        }
        server.address = address.ok_or_else(|| A::Error::missing_field("address"))?.into();
        server.name = name.map_or_else(|| server.address.clone(), Into::into);
        Ok(server)
    }
}

/// As a text, if the address is all that it has, else as a table. Feature `serde`.
impl Serialize for Server {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { name, address, tags, max_conns, max_rps, burst, weight, tier } = self;
        if *self == Self::new(address.clone()) {
            return to.serialize_str(address);
        }
        let mut table = to.serialize_map(None)?;
        if name != address {
            table.serialize_entry("name", &**name)?;
        }
        table.serialize_entry("address", &**address)?;
        let limits = [("max_conns", *max_conns), ("burst", *burst)];
        let places = [("weight", Some(*weight).filter(|w| *w != 1)), ("tier", Some(*tier).filter(|t| *t != 0))];
        for (key, value) in limits.into_iter().chain(places) {
            if let Some(value) = value {
                table.serialize_entry(key, &value)?;
            }
        }
        if let Some(rps) = max_rps {
            table.serialize_entry("max_rps", rps)?;
        }
        if !tags.is_empty() {
            let tags: BTreeMap<&str, &str> = tags.iter().map(|(key, value)| (&**key, &**value)).collect();
            table.serialize_entry("tags", &tags)?;
        }
        table.end()
    }
}
