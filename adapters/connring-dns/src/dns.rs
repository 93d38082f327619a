//! The settings, checked once.

use std::error::Error;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use hickory_resolver::proto::rr::Name;

use crate::endpoints::Endpoint;
use crate::policy::{Answer, Policy, Times};
use crate::question::{Question, ask};
use crate::resolver::{NameServers, Source};
use crate::sets::ServerSets;

const MILLISECOND: Duration = Duration::from_millis(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How servers are looked up: which name servers are asked, how often, and how long a server stays that answers lack.
///
/// | knob | default | range |
/// |---|---|---|
/// | [`min_interval`](Self::min_interval) | 5 s | 1 ms to 365 days |
/// | [`max_interval`](Self::max_interval) | 5 min | `min_interval` to 365 days |
/// | [`query_timeout`](Self::query_timeout) | 5 s | 1 ms to 365 days |
/// | [`keep_absent`](Self::keep_absent) | 30 s | 0 to 365 days |
/// | [`keep_empty`](Self::keep_empty) | 5 min | 1 ms to 365 days; `None`: for ever |
/// | [`family`](Self::family) | [`AddressFamily::Any`] | |
#[derive(Debug, Clone)]
#[must_use = "it looks up nothing until a name is given"]
pub struct Dns {
    source: Source,
    times: Times,
    query_timeout: Duration,
    family: AddressFamily,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressFamily {
    /// IPv4 and IPv6. A machine with an address of each is two servers of the pool, each with its own limits.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Dns {
    /// The name servers, the search list and the hosts file of the system. They are read anew for each look-up, so
    /// that changes count.
    pub fn system() -> Self {
        Self::new(Source::System)
    }

    /// These name servers, over UDP, and over TCP where an answer is cut. Without a search list and a hosts file.
    pub fn name_servers(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::new(Source::NameServers(addresses.into_iter().collect()))
    }

    fn new(source: Source) -> Self {
        let times = Times {
            min_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(300),
            keep_absent: Duration::from_secs(30),
            keep_empty: Some(Duration::from_secs(300)),
        };
        Self { source, times, query_timeout: Duration::from_secs(5), family: AddressFamily::Any }
    }

    /// The shortest time between look-ups, also if the TTL is shorter. Default: 5 s. Range: 1 ms to 365 days.
    ///
    /// A name without records is looked up at this interval. After a failed look-up the first retries come after a
    /// quarter and a half of it. Each pause is up to a tenth longer, at random.
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.times.min_interval = interval;
        self
    }

    /// The longest time between look-ups, also if the TTL is longer. Default: 5 min. Range: `min_interval` to 365 days.
    pub fn max_interval(mut self, interval: Duration) -> Self {
        self.times.max_interval = interval;
        self
    }

    /// How long a query for one name and type may take in all. The name servers are asked in their order, each for an
    /// equal part of it. Default: 5 s. Range: 1 ms to 365 days.
    pub fn query_timeout(mut self, timeout: Duration) -> Self {
        self.query_timeout = timeout;
        self
    }

    /// How long an address stays that answers lack. It is removed by the first answer that lacks it this long after
    /// the first one did, so by the second one at the earliest. Default: 30 s. Range: 0 to 365 days.
    ///
    /// Make it longer where each answer holds a part of the addresses only, and shorter where another service may soon
    /// get the address.
    pub fn keep_absent(mut self, time: Duration) -> Self {
        self.times.keep_absent = time;
        self
    }

    /// How long the servers stay after the name lost all its records, or ceased to exist. `None`: for ever. Default:
    /// 5 min. Range: 1 ms to 365 days.
    ///
    /// A mistake in a zone looks the same. After this time the pool has no servers.
    pub fn keep_empty(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.times.keep_empty = time.into();
        self
    }

    /// Which addresses are used. Default: [`AddressFamily::Any`].
    pub fn family(mut self, family: AddressFamily) -> Self {
        self.family = family;
        self
    }

    /// Follows the addresses (A and AAAA records) of a name: servers of tier 0 and weight 1, at this port. An IP
    /// address is a server that stays.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub fn addresses(&self, name: &str, port: u16) -> Result<ServerSets, DnsError> {
        let Ok(ip) = name.parse::<IpAddr>() else { return self.follow(name, Question::Addresses { port }) };
        let policy = Policy::new(name, self.checked_times()?);
        let endpoint = Endpoint { address: (ip, port).into(), host: name.into(), priority: 0, weight: 1 };
        let answer = move || ready(Answer { endpoints: vec![endpoint.clone()], ..Answer::EMPTY });
        Ok(ServerSets::new(name, policy, answer))
    }

    /// Follows the SRV records of a name, such as `_redis._tcp.example.com`.
    ///
    /// The priorities become [tiers](connring::Server::tier) in their order; after 15, the others share the last tier.
    /// The weights become [weights](connring::Server::weight), which count with
    /// [`LoadBalancing::Weighted`](connring::LoadBalancing::Weighted). The addresses of a target share its weight.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub fn services(&self, name: &str) -> Result<ServerSets, DnsError> {
        self.follow(name, Question::Services)
    }

    fn follow(&self, text: &str, question: Question) -> Result<ServerSets, DnsError> {
        let name = Name::from_utf8(text)
            .ok()
            .filter(|name| name.num_labels() > 0)
            .ok_or_else(|| DnsError::Name { name: text.to_owned() })?;
        let policy = Policy::new(text, self.checked_times()?);
        let Self { source, query_timeout, family, times: _ } = self.clone();
        NameServers::open(&source, query_timeout).map_err(|error| DnsError::NameServers { source: error.into() })?;
        let answer = move || {
            let (source, name, question) = (source.clone(), name.clone(), question.clone());
            async move {
                match NameServers::open(&source, query_timeout) {
                    Ok(name_servers) => ask(&question, &name, family, &name_servers).await,
                    Err(error) => Answer { failure: Some(error.into()), ..Answer::EMPTY },
                }
            }
        };
        Ok(ServerSets::new(text, policy, answer))
    }

    fn checked_times(&self) -> Result<Times, DnsError> {
        let Self { times, query_timeout, family: _, source: _ } = self;
        let Times { min_interval, max_interval, keep_absent, keep_empty } = times;
        check("min_interval", *min_interval, MILLISECOND..=YEAR)?;
        check("max_interval", *max_interval, *min_interval..=YEAR)?;
        check("query_timeout", *query_timeout, MILLISECOND..=YEAR)?;
        check("keep_absent", *keep_absent, Duration::ZERO..=YEAR)?;
        check("keep_empty", keep_empty.unwrap_or(YEAR), MILLISECOND..=YEAR)?;
        Ok(times.clone())
    }
}

fn check(setting: &'static str, value: Duration, range: RangeInclusive<Duration>) -> Result<(), DnsError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(DnsError::OutOfRange { setting, value, range }),
    }
}

/// Why a name cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// It is not a domain name.
    #[error("{name:?} is not a domain name")]
    Name {
        /// The text.
        name: String,
    },
    /// A setting is out of its range.
    #[error("{setting} is {value:?}, outside {range:?}")]
    OutOfRange {
        /// The name of the setting.
        setting: &'static str,
        /// The value that was refused.
        value: Duration,
        /// The range of values.
        range: RangeInclusive<Duration>,
    },
    /// The system's configuration cannot be read, or there is no name server in it or in the given ones.
    #[error("no name server can be asked")]
    NameServers {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn dns() -> Dns {
        Dns::name_servers([([127, 0, 0, 1], 53).into()])
    }

    #[test]
    fn a_setting_out_of_its_range_is_refused_with_its_value() {
        let refused = [
            (dns().min_interval(Duration::ZERO), "min_interval is 0ns, outside 1ms..=31536000s"),
            (dns().min_interval(HOUR), "max_interval is 300s, outside 3600s..=31536000s"),
            (dns().query_timeout(Duration::ZERO), "query_timeout is 0ns, outside 1ms..=31536000s"),
            (
                dns().keep_absent(Duration::MAX),
                "keep_absent is 18446744073709551615.999999999s, outside 0ns..=31536000s",
            ),
            (dns().keep_empty(Duration::ZERO), "keep_empty is 0ns, outside 1ms..=31536000s"),
        ];
        for (dns, text) in refused {
            for result in [dns.addresses("db.test", 1), dns.addresses("10.0.0.1", 1), dns.services("_db._tcp.test")] {
                assert_eq!(result.err().map(|error| error.to_string()).as_deref(), Some(text));
            }
        }
        let allowed = dns().min_interval(HOUR).max_interval(HOUR).keep_absent(Duration::ZERO).keep_empty(None);
        assert!(allowed.addresses("db.test", 1).is_ok());
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for name in ["", ".", "a..b", &"a".repeat(64)] {
            let error = dns().services(name).expect_err("it is no name");
            assert_eq!(error.to_string(), format!("{name:?} is not a domain name"));
        }
    }
}
