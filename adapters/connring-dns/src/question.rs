//! The look-ups that answer a question: the addresses of a name, or its SRV records and the addresses of their targets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::{StreamExt, iter};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::AddressFamily;
use crate::endpoints::Endpoint;
use crate::policy::{Answer, Failure};

/// How many targets of SRV records are looked up at once.
const CONCURRENT_TARGETS: usize = 8;

/// The records of one name and one type. None: the name does not exist, or has no such records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) data: Vec<RData>,
    /// The lowest of them.
    pub(crate) ttl: Duration,
}

impl Records {
    pub(crate) const NONE: Self = Self { data: Vec::new(), ttl: Duration::MAX };
}

/// A resolver of absolute names.
pub(crate) trait Resolve: Sync {
    /// The absolute names that a name may stand for, in the order in which they are tried.
    fn candidates(&self, name: &Name) -> Vec<Name>;

    /// # Errors
    ///
    /// If it is not known whether there are records.
    fn resolve(&self, name: &Name, kind: RecordType) -> impl Future<Output = Result<Records, Failure>> + Send;
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    /// The addresses of a name, with this port.
    Addresses { port: u16 },
    /// The SRV records of a name.
    Services,
}

/// Asks for the candidates of a name in turn. The first one with records answers. A failure ends the search, because
/// the candidate that failed might have had the records.
pub(crate) async fn ask(question: &Question, name: &Name, family: AddressFamily, resolver: &impl Resolve) -> Answer {
    let mut answer = Answer::EMPTY;
    for candidate in resolver.candidates(name) {
        answer = match question {
            Question::Addresses { port } => {
                let record = Record { host: text(name).into(), port: *port, priority: 0, weight: 1 };
                addresses(&candidate, &record, family, resolver).await
            }
            Question::Services => services(&candidate, family, resolver).await,
        };
        if !answer.endpoints.is_empty() || answer.failure.is_some() {
            break;
        }
    }
    answer
}

/// What all addresses of a target have in common.
struct Record {
    host: Arc<str>,
    port: u16,
    priority: u16,
    weight: u16,
}

/// The addresses of one absolute name.
async fn addresses(name: &Name, record: &Record, family: AddressFamily, resolver: &impl Resolve) -> Answer {
    let look_up = async |kind, is_wanted| match is_wanted {
        true => resolver.resolve(name, kind).await,
        false => Ok(Records::NONE),
    };
    let (v4, v6) = join(
        look_up(RecordType::A, family != AddressFamily::V6),
        look_up(RecordType::AAAA, family != AddressFamily::V4),
    )
    .await;
    let endpoint = |ip| {
        let Record { host, port, priority, weight } = record;
        Endpoint { address: SocketAddr::new(ip, *port), host: Arc::clone(host), priority: *priority, weight: *weight }
    };
    let mut answer = Answer::EMPTY;
    for result in [v4, v6] {
        answer.join(match result {
            Ok(Records { data, ttl }) => {
                // The unspecified address is how filters say no. A client that connects to it reaches its own machine.
                let ips = data.iter().filter_map(RData::ip_addr).filter(|ip| !ip.is_unspecified());
                Answer { endpoints: ips.map(endpoint).collect(), ttl, ..Answer::EMPTY }
            }
            Err(failure) => {
                let failed_hosts = vec![Arc::clone(&record.host)];
                Answer { failure: Some(failure), failed_hosts, ..Answer::EMPTY }
            }
        });
    }
    answer
}

/// The SRV records of one absolute name, with the addresses of their targets.
async fn services(name: &Name, family: AddressFamily, resolver: &impl Resolve) -> Answer {
    let (data, ttl) = match resolver.resolve(name, RecordType::SRV).await {
        Ok(Records { data, ttl }) => (data, ttl),
        Err(failure) => return Answer { failure: Some(failure), ..Answer::EMPTY },
    };
    let records = data.into_iter().filter_map(|data| match data {
        // The target "." says that the service is not offered.
        RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => Some(srv),
        _ => None,
    });
    let look_up = async |srv: SRV| {
        let SRV { priority, weight, port, target, .. } = srv;
        addresses(&target, &Record { host: text(&target).into(), port, priority, weight }, family, resolver).await
    };
    let mut answers = iter(records).map(look_up).buffer_unordered(CONCURRENT_TARGETS);
    let mut answer = Answer { ttl, ..Answer::EMPTY };
    while let Some(of_target) = answers.next().await {
        answer.join(of_target);
    }
    answer
}

/// A name as TLS wants it: in lower case, since the case may differ between answers, and without the last dot.
fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
