//! What DNS says of one server, and the pool's servers that follow from all of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use connring::{Server, TLS_SERVER_NAME};

/// The pool's last tier, which takes all further priorities.
const LAST_TIER: usize = 15;

/// The highest weight of a server of the pool.
const MOST_WEIGHT: u32 = 65_535;

/// One address with a port. Addresses without an SRV record have priority 0 and weight 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// The name that the address belongs to: the target of the SRV record, or the name that was looked up.
    pub(crate) host: Arc<str>,
    pub(crate) priority: u16,
    pub(crate) weight: u16,
}

/// Leaves one endpoint of each address, since a pool has each server once: that of the best priority, then of the
/// largest weight.
pub(crate) fn unique(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let order = |one: &Endpoint| (one.address, one.priority, Reverse(one.weight), Arc::clone(&one.host));
    endpoints.sort_by_cached_key(order);
    endpoints.dedup_by_key(|one| one.address);
    endpoints
}

/// Makes the servers. The priorities become tiers in their order. The weights of a tier are those of the records where
/// that is exact. Otherwise they are scaled up: a record's weight is shared by the addresses of its target, and a
/// weight of 0, which the pool does not have, becomes 1 beside large ones.
pub(crate) fn servers<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Vec<Server> {
    let priorities: BTreeSet<u16> = endpoints.clone().map(|one| one.priority).collect();
    let tiers: BTreeMap<u16, usize> =
        priorities.into_iter().enumerate().map(|(tier, priority)| (priority, tier.min(LAST_TIER))).collect();
    let mut by_tier = BTreeMap::<usize, Tier<'_>>::new();
    for one in endpoints.clone() {
        by_tier.entry(tiers[&one.priority]).or_default().add(one);
    }
    let server = |one: &Endpoint| {
        let tier = tiers[&one.priority];
        let server = Server::new(one.address.to_string()).tag(TLS_SERVER_NAME, Arc::clone(&one.host));
        server.tier(tier as u32).weight(by_tier[&tier].weight(one))
    };
    endpoints.map(server).collect()
}

/// The weights of one tier.
#[derive(Default)]
struct Tier<'a> {
    /// The addresses of each target and port.
    addresses: BTreeMap<(&'a str, u16), u32>,
    weights: BTreeSet<u16>,
}

impl<'a> Tier<'a> {
    fn add(&mut self, one: &'a Endpoint) {
        *self.addresses.entry((&one.host, one.address.port())).or_default() += 1;
        self.weights.insert(one.weight);
    }

    fn weight(&self, one: &Endpoint) -> u32 {
        let addresses = self.addresses[&(&*one.host, one.address.port())];
        let is_even = self.addresses.values().all(|&count| count == addresses);
        let has_zero = self.weights.len() > 1 && self.weights.contains(&0);
        if is_even && !has_zero {
            return u32::from(one.weight).max(1);
        }
        let largest = self.weights.last().map_or(1, |&weight| u32::from(weight).max(1));
        // All weights are 0, and the targets have unequally many addresses.
        let weight = if has_zero { one.weight } else { one.weight.max(1) };
        (u32::from(weight) * (MOST_WEIGHT / largest) / addresses).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, host: &str, priority: u16, weight: u16) -> Endpoint {
        Endpoint { address: address.parse().expect("an address"), host: host.into(), priority, weight }
    }

    fn made(endpoints: &[Endpoint]) -> Vec<Server> {
        servers(endpoints.iter())
    }

    fn server(address: &str, host: &str, tier: u32, weight: u32) -> Server {
        Server::new(address).tag("tls_server_name", host).tier(tier).weight(weight)
    }

    #[test]
    fn priorities_become_tiers_in_their_order() {
        let set = made(&[
            endpoint("10.0.0.1:1", "a", 20, 5),
            endpoint("10.0.0.2:1", "b", 10, 7),
            endpoint("10.0.0.3:1", "c", 20, 6),
        ]);
        let expected =
            [server("10.0.0.1:1", "a", 1, 5), server("10.0.0.2:1", "b", 0, 7), server("10.0.0.3:1", "c", 1, 6)];
        assert_eq!(set, expected);
    }

    #[test]
    fn the_seventeenth_priority_shares_the_last_tier() {
        let endpoints: Vec<_> =
            (0..20).map(|n| endpoint(&format!("10.0.0.{n}:1"), &n.to_string(), 100 + n, 1)).collect();
        let set = made(&endpoints);
        assert_eq!(set[14], server("10.0.0.14:1", "14", 14, 1));
        for (n, last) in set.iter().enumerate().skip(15) {
            assert_eq!(*last, server(&format!("10.0.0.{n}:1"), &n.to_string(), 15, 1));
        }
    }

    #[test]
    fn a_weight_of_zero_is_the_smallest_beside_others_and_equal_alone() {
        let zeros = [endpoint("10.0.0.1:1", "a", 0, 0), endpoint("10.0.0.2:1", "b", 0, 0)];
        assert_eq!(made(&zeros), [server("10.0.0.1:1", "a", 0, 1), server("10.0.0.2:1", "b", 0, 1)]);
        let mixed = [endpoint("10.0.0.1:1", "a", 0, 0), endpoint("10.0.0.2:1", "b", 0, 2)];
        assert_eq!(made(&mixed), [server("10.0.0.1:1", "a", 0, 1), server("10.0.0.2:1", "b", 0, 65_534)]);
        let uneven = [zeros[0].clone(), zeros[1].clone(), endpoint("10.0.0.3:1", "b", 0, 0)];
        let weights = [("10.0.0.1:1", "a", 65_535), ("10.0.0.2:1", "b", 32_767), ("10.0.0.3:1", "b", 32_767)];
        assert_eq!(made(&uneven), weights.map(|(address, host, weight)| server(address, host, 0, weight)));
    }

    #[test]
    fn the_addresses_of_a_target_share_its_weight() {
        let set = made(&[
            endpoint("10.0.0.1:1", "a", 0, 1),
            endpoint("10.0.0.2:1", "b", 0, 1),
            endpoint("[fd00::2]:1", "b", 0, 1),
        ]);
        let expected = [
            server("10.0.0.1:1", "a", 0, 65_535),
            server("10.0.0.2:1", "b", 0, 32_767),
            server("[fd00::2]:1", "b", 0, 32_767),
        ];
        assert_eq!(set, expected);
    }

    #[test]
    fn an_address_with_two_records_keeps_the_best() {
        let one = |host, priority, weight| endpoint("10.0.0.1:1", host, priority, weight);
        let other = endpoint("10.0.0.1:2", "a", 9, 9);
        let all = vec![other.clone(), one("a", 2, 9), one("a", 1, 4), one("c", 1, 8), one("b", 1, 8)];
        assert_eq!(unique(all), [one("b", 1, 8), other]);
    }
}
