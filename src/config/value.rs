//! The kinds of values of settings, in files and in flags.

use std::time::Duration;

#[cfg(feature = "serde")]
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::load_balancing::LoadBalancing;
use crate::server::Server;

pub(super) trait Value: Clone + Send + Sync + 'static {
    /// How `--help` names it.
    #[cfg(feature = "clap")]
    const NAME: &'static str;

    /// Reads a text. The error says what it should be.
    fn parse(text: &str) -> Result<Self, String>;

    /// Reads a value of a file.
    #[cfg(feature = "serde")]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;

    #[cfg(feature = "serde")]
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
}

/// Values that files have a type for: their names in `--help`, how they are read from flags and from files.
macro_rules! native {
    ($($kind:ty, $name:literal, $parse:expr, $read:expr;)+) => { $(
        impl Value for $kind {
            #[cfg(feature = "clap")]
            const NAME: &'static str = $name;

            fn parse(text: &str) -> Result<Self, String> {
                $parse(text)
            }

            #[cfg(feature = "serde")]
            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $read(from)
            }

            #[cfg(feature = "serde")]
            fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.serialize(to)
            }
        }
    )+ };
}

native! {
    String, "TEXT", from_str, Self::deserialize;
    bool, "true|false", from_str, Self::deserialize;
    f64, "NUMBER", from_str, Self::deserialize;
    u32, "N", from_str, Self::deserialize;
    usize, "N", from_str, Self::deserialize;
    Vec<Server>, "ADDRESS,…", |text: &str| Ok(text.split(',').map(Server::from).collect()), super::file::read_servers;
}

fn from_str<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Values that are a text in files, too: their names in `--help`, what is expected, how they are read and written.
macro_rules! text {
    ($($kind:ty, $name:literal, $expected:literal, $parse:expr, $format:expr;)+) => { $(
        impl Value for $kind {
            #[cfg(feature = "clap")]
            const NAME: &'static str = $name;

            fn parse(text: &str) -> Result<Self, String> {
                $parse(text).ok_or_else(|| concat!("expected ", $expected).to_owned())
            }

            #[cfg(feature = "serde")]
            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                super::file::read_text(from, $expected)
            }

            #[cfg(feature = "serde")]
            fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(&$format(*self))
            }
        }
    )+ };
}

text! {
    Duration, "DURATION", "a duration with a unit, such as \"250ms\" or \"2m\"",
        duration, humantime::format_duration;
    Option<Duration>, "DURATION|none", "a duration with a unit, such as \"250ms\" or \"2m\", or \"none\"",
        |text| if text == "none" { Some(None) } else { duration(text).map(Some) },
        |time: Self| time.map_or_else(|| "none".to_owned(), |time| humantime::format_duration(time).to_string());
    LoadBalancing, "POLICY", "\"round-robin\", \"weighted\" or \"least-in-use\"", policy, name_of;
}

fn duration(text: &str) -> Option<Duration> {
    // humantime takes a zero without a unit.
    let has_unit = text.ends_with(char::is_alphabetic);
    humantime::parse_duration(text).ok().filter(|_| has_unit)
}

fn policy(text: &str) -> Option<LoadBalancing> {
    let mut policies = [LoadBalancing::RoundRobin, LoadBalancing::Weighted, LoadBalancing::LeastInUse].into_iter();
    policies.find(|policy| name_of(*policy) == text)
}

fn name_of(policy: LoadBalancing) -> &'static str {
    match policy {
        LoadBalancing::RoundRobin => "round-robin",
        LoadBalancing::Weighted => "weighted",
        LoadBalancing::LeastInUse => "least-in-use",
    }
}
