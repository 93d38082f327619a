//! Name servers, asked by hickory.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};

use crate::policy::Failure;
use crate::question::{Records, Resolve};

/// Where name servers are found.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// In the system's configuration.
    System,
    NameServers(Vec<SocketAddr>),
}

/// The name servers of one look-up. They are made anew for each, so that a changed system configuration counts.
pub(crate) struct NameServers {
    /// One resolver for each name server: hickory asks no second server if the first one answers with an error.
    in_order: Vec<TokioResolver>,
    search: Vec<Name>,
    ndots: usize,
}

impl NameServers {
    /// # Errors
    ///
    /// If the system's configuration cannot be read, or no name server is known.
    pub(crate) fn open(source: &Source, query_timeout: Duration) -> Result<Self, NetError> {
        let (config, mut options) = match source {
            Source::System => read_system_conf()?,
            Source::NameServers(addresses) => {
                let config = ResolverConfig::from_name_servers(addresses.iter().copied().map(name_server).collect());
                // Only the given name servers answer.
                let mut options = ResolverOpts::default();
                options.use_hosts_file = ResolveHosts::Never;
                (config, options)
            }
        };
        let (domain, mut search, name_servers) = config.into_parts();
        if search.is_empty() {
            search.extend(domain);
        }
        let Ok(count @ 1..) = u32::try_from(name_servers.len()) else {
            return Err(io::Error::other("no name server is configured").into());
        };
        // Queries over UDP are repeated within the timeout.
        (options.timeout, options.attempts) = (query_timeout / count, 0);
        let ndots = options.ndots;
        let resolver = |server| {
            let config = ResolverConfig::from_name_servers(vec![server]);
            let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.with_options(options.clone()).build()
        };
        Ok(Self { in_order: name_servers.into_iter().map(resolver).collect::<Result<_, _>>()?, search, ndots })
    }
}

impl Resolve for NameServers {
    fn candidates(&self, name: &Name) -> Vec<Name> {
        candidates(name, &self.search, self.ndots)
    }

    async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Records, Failure> {
        let mut failure = None;
        for resolver in &self.in_order {
            match resolver.lookup(name.clone(), kind).await {
                Ok(found) => {
                    let (data, ttls): (Vec<_>, Vec<_>) =
                        found.answers().iter().map(|record| (record.data.clone(), record.ttl)).unzip();
                    let ttl = ttls.into_iter().min().map_or(Duration::ZERO, |ttl| Duration::from_secs(ttl.into()));
                    return Ok(Records { data, ttl });
                }
                Err(error) if error.is_no_records_found() => return Ok(Records::NONE),
                Err(error) => failure = Some(error),
            }
        }
        let failure = failure.unwrap_or(NetError::NoConnections);
        Err(format!("{kind} records of {name}: {failure}").into())
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    // TCP follows where an answer does not fit into a datagram.
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// As a system's resolver: a name with at least `ndots` dots is tried as it is before the search list, others after it.
fn candidates(name: &Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    if name.is_fqdn() {
        return vec![absolute];
    }
    let mut names: Vec<Name> = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let place = if dots >= ndots { 0 } else { names.len() };
    names.insert(place, absolute);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_comes_before_a_name_with_few_dots_and_after_one_with_many() {
        let name = |text| Name::from_utf8(text).expect("a name");
        let search = [name("a.example"), name("b.example.")];
        let tried = |text, ndots| -> Vec<String> {
            candidates(&name(text), &search, ndots).iter().map(ToString::to_string).collect()
        };
        assert_eq!(tried("db", 1), ["db.a.example.", "db.b.example.", "db."]);
        assert_eq!(tried("db.c", 1), ["db.c.", "db.c.a.example.", "db.c.b.example."]);
        assert_eq!(tried("db.c", 2), ["db.c.a.example.", "db.c.b.example.", "db.c."]);
        assert_eq!(tried("db.", 1), ["db."]);
    }

    #[test]
    fn no_name_servers_are_an_error() {
        let none = NameServers::open(&Source::NameServers(Vec::new()), Duration::from_secs(1));
        assert!(none.is_err_and(|error| error.to_string().contains("no name server")));
    }
}
