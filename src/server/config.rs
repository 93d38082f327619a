//! The settings of a server, and the limits that follow from them.

#[cfg(feature = "serde")]
mod entry;

use std::net::SocketAddr;

use crate::error::ServerError;
use crate::raw::{MAX_RPS, MIN_RPS, PermitCounts, Rate, TierInUse};
use crate::server::Weight;
use crate::sync::{Arc, BTreeMap};

/// The key of a [tag](Server::tag) that names the server for TLS: see [`Server::tls_server_name`].
pub const TLS_SERVER_NAME: &str = "tls_server_name";

/// A server: its address, and the settings in which it differs from the pool's defaults.
///
/// The address is any text that the connector understands. The pool does not resolve it.
///
/// # Examples
///
/// ```
/// use connring::Server;
///
/// let server = Server::new("10.0.0.2:6379").max_conns(4).max_rps(500.0).burst(10);
/// assert_eq!(server.address(), "10.0.0.2:6379");
/// ```
#[must_use = "a server has no effect until it is registered"]
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Server {
    name: Arc<str>,
    address: Arc<str>,
    /// By key: tags in another order are the same.
    tags: BTreeMap<Arc<str>, Arc<str>>,
    max_conns: Option<u32>,
    max_rps: Option<f64>,
    burst: Option<u32>,
    weight: u32,
    tier: u32,
}

impl Server {
    /// A server with the pool's defaults, known by its address. The address is checked when the server is registered:
    /// it must not be empty, and no blanks may stand around it.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        let address = address.into();
        let (name, tags, weight, tier) = (Arc::clone(&address), BTreeMap::new(), 1, 0);
        Self { name, address, tags, max_conns: None, max_rps: None, burst: None, weight, tier }
    }

    /// A server that is known by a name of its own. Several may share an address, each with its own limits; and one
    /// that moves to another address stays the same server.
    ///
    /// # Examples
    ///
    /// ```
    /// use connring::Server;
    ///
    /// let server = Server::named("replica-2", "10.0.0.2:6379");
    /// assert_eq!((server.name(), server.address()), ("replica-2", "10.0.0.2:6379"));
    /// ```
    pub fn named(name: impl Into<Arc<str>>, address: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ..Self::new(address) }
    }

    /// The address that the connector connects to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The name that identifies the server in the pool: its address, unless it was [`named`](Self::named).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a value for the connector, under a key; replaces an earlier one of the same key. The
    /// order of keys does not count.
    ///
    /// # Examples
    ///
    /// ```
    /// use connring::Server;
    ///
    /// let server = Server::new("10.0.0.2:443").tag("sni", "b.example");
    /// assert_eq!(server.tag_value("sni"), Some("b.example"));
    /// ```
    pub fn tag(mut self, key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// The value that was added under a key.
    pub fn tag_value(&self, key: &str) -> Option<&str> {
        self.tags.get(key).map(|value| &**value)
    }

    /// The name that the server's TLS certificate must be valid for: the value of the tag [`TLS_SERVER_NAME`], or else
    /// the host of the address. The host is what comes before the last colon, without brackets and without the scope
    /// of an IPv6 address.
    ///
    /// # Examples
    ///
    /// ```
    /// use connring::{Server, TLS_SERVER_NAME};
    ///
    /// let server = Server::new("db.example:5432");
    /// assert_eq!(server.tls_server_name(), "db.example");
    /// let server = Server::new("10.0.0.2:5432").tag(TLS_SERVER_NAME, "db.example");
    /// assert_eq!(server.tls_server_name(), "db.example");
    /// ```
    pub fn tls_server_name(&self) -> &str {
        self.tag_value(TLS_SERVER_NAME).unwrap_or_else(|| host(&self.address))
    }

    /// Whether the connections of another server lead to the same place: address and tags are the same.
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        self.address == other.address && self.tags == other.tags
    }

    /// The most connections open to it at once. Default: the builder's `max_conns_per_server`. Range: 1 to 16 777 215.
    pub fn max_conns(mut self, connections: u32) -> Self {
        self.max_conns = Some(connections);
        self
    }

    /// The most checkouts of its connections a second. Default: the builder's `max_rps`. Range: 10⁻⁶ to 10⁹, which
    /// is none in effect: for a server without a limit in a pool with one.
    pub fn max_rps(mut self, per_second: f64) -> Self {
        self.max_rps = Some(per_second);
        self
    }

    /// The most checkouts at once after a rest. Default: the builder's `burst`, else 1 + 10 ms of the rate, rounded up.
    /// Without a rate it has no effect. Range: 1 to what the rate gives in 18 years.
    ///
    /// A burst below 1 + 10 ms of the rate keeps the bound but not the rate: timers tick in milliseconds, so that
    /// waiters get at most `burst` tokens in about 2 ms.
    pub fn burst(mut self, tokens: u32) -> Self {
        self.burst = Some(tokens);
        self
    }

    /// Its share of the checkouts, in proportion to the weights of the others. Only with
    /// [`LoadBalancing::Weighted`](crate::LoadBalancing::Weighted). Default: 1. Range: 1 to 65 535.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Its tier: callers use the servers of the best tier of which a server serves, the one with the lowest number; the
    /// others are standby. Default: 0. Range: 0 to 15.
    ///
    /// A caller that would wait otherwise also uses the next tier while none of the servers in use has an idle
    /// connection and connecting to each pauses, or takes longer than the
    /// [`hedge_delay`](crate::Builder::hedge_delay); with
    /// [`spill_when_full`](crate::Builder::spill_when_full) also while they are full.
    pub fn tier(mut self, tier: u32) -> Self {
        self.tier = tier;
        self
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn shared_address(&self) -> &Arc<str> {
        &self.address
    }

    /// The limits, with the pool's where the server has none of its own.
    pub(crate) fn limits(&self, pool: &PoolLimits) -> Result<Limits, ServerError> {
        if self.address.is_empty() || self.name.is_empty() {
            return Err(ServerError::EmptyAddress { name: Arc::clone(&self.name) });
        }
        if let Some(text) = [&self.name, &self.address].into_iter().find(|text| text.trim() != &***text) {
            return Err(ServerError::Blanks { text: Arc::clone(text) });
        }
        let out_of_range =
            |setting, value, range| ServerError::OutOfRange { name: Arc::clone(&self.name), setting, value, range };
        let max_conns = self.max_conns.unwrap_or(pool.max_conns);
        if max_conns == 0 || max_conns > PermitCounts::MOST_OPEN {
            return Err(out_of_range("max_conns", max_conns.to_string(), format!("1..={}", PermitCounts::MOST_OPEN)));
        }
        let weight = self.weight;
        if !(1..=Weight::MOST).contains(&weight) {
            return Err(out_of_range("weight", weight.to_string(), format!("1..={}", Weight::MOST)));
        }
        let tier = self.tier as usize;
        if tier > TierInUse::LAST {
            return Err(out_of_range("tier", tier.to_string(), format!("0..={}", TierInUse::LAST)));
        }
        if pool.min_idle > max_conns {
            return Err(out_of_range("min_idle_per_server", pool.min_idle.to_string(), format!("0..={max_conns}")));
        }
        let Some(rps) = self.max_rps.or(pool.max_rps) else {
            return match self.burst.or(pool.burst) {
                Some(0) => Err(out_of_range("burst", "0".to_owned(), "1..".to_owned())),
                _ => Ok(Limits { max_conns, rate: None, weight, tier }),
            };
        };
        if !(MIN_RPS..=MAX_RPS).contains(&rps) {
            return Err(out_of_range("max_rps", rps.to_string(), RPS_RANGE.to_owned()));
        }
        let max_burst = Rate::max_burst(rps);
        let burst = self.burst.or(pool.burst).unwrap_or_else(|| default_burst(rps).min(max_burst));
        let rate = Rate::new(rps, burst)
            .ok_or_else(|| out_of_range("burst", burst.to_string(), format!("1..={max_burst} at {rps} a second")))?;
        Ok(Limits { max_conns, rate: Some(rate), weight, tier })
    }
}

/// The host of an address, without brackets and scope.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _port)| host);
    let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) else { return host };
    inside.split_once('%').map_or(inside, |(ip, _scope)| ip)
}

impl From<&str> for Server {
    fn from(address: &str) -> Self {
        Self::new(address)
    }
}

impl From<String> for Server {
    fn from(address: String) -> Self {
        Self::new(address)
    }
}

/// For a borrowed list of addresses: `servers(&addresses)`.
impl From<&String> for Server {
    fn from(address: &String) -> Self {
        Self::new(address.as_str())
    }
}

impl From<Arc<str>> for Server {
    fn from(address: Arc<str>) -> Self {
        Self::new(address)
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.to_string())
    }
}

/// The range of rates, for error messages.
const RPS_RANGE: &str = "0.000001..=1000000000";

/// 1 + 10 ms of the rate, rounded up, because timers tick in milliseconds.
fn default_burst(rps: f64) -> u32 {
    1 + (rps / 100.0).ceil() as u32
}

/// The limits of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_conns: u32,
    pub(crate) rate: Option<Rate>,
    pub(crate) weight: u32,
    pub(crate) tier: usize,
}

/// The limits of servers that set none of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    pub(crate) max_conns: u32,
    pub(crate) max_rps: Option<f64>,
    pub(crate) burst: Option<u32>,
    /// Not above the `max_conns` of any server.
    pub(crate) min_idle: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_for_tls_is_the_host_of_the_address_unless_the_tag_says_another() {
        for (address, expected) in [
            ("db.example:6380", "db.example"),
            ("db.example", "db.example"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[fe80::1%eth0]:443", "fe80::1"),
            ("/run/db.sock", "/run/db.sock"),
        ] {
            assert_eq!(Server::new(address).tls_server_name(), expected);
        }
        assert_eq!(Server::new("/run/db.sock").tag(TLS_SERVER_NAME, "db.example").tls_server_name(), "db.example");
    }
}
