use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_resolver::proto::rr::rdata::{A, AAAA};

use super::*;

/// Answers by name and type. It fails where the answer is `None`, and has no other names.
#[derive(Default)]
struct Script {
    search: Vec<Name>,
    answers: BTreeMap<(String, RecordType), Option<Records>>,
}

impl Script {
    fn says(mut self, name: &str, kind: RecordType, ttl: u64, data: &[RData]) -> Self {
        let records = Records { data: data.to_vec(), ttl: Duration::from_secs(ttl) };
        self.answers.insert((name.to_owned(), kind), Some(records));
        self
    }

    fn fails(mut self, name: &str, kind: RecordType) -> Self {
        self.answers.insert((name.to_owned(), kind), None);
        self
    }

    async fn addresses(&self, name: &str, family: AddressFamily) -> Answer {
        ask(&Question::Addresses { port: 80 }, &absolute(name), family, self).await
    }

    async fn services(&self) -> Answer {
        ask(&Question::Services, &absolute("_web._tcp.test."), AddressFamily::Any, self).await
    }
}

impl Resolve for Script {
    fn candidates(&self, name: &Name) -> Vec<Name> {
        if self.search.is_empty() { vec![name.clone()] } else { self.search.clone() }
    }

    async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Records, Failure> {
        match self.answers.get(&(name.to_string(), kind)) {
            Some(Some(records)) => Ok(records.clone()),
            Some(None) => Err("no answer".into()),
            None => Ok(Records::NONE),
        }
    }
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(name).expect("a name")
}

fn ip(text: &str) -> RData {
    match text.parse().expect("an address") {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, absolute(target)))
}

/// Its addresses in order, with host, priority and weight.
fn found(answer: &Answer) -> Vec<(String, &str, u16, u16)> {
    let mut found: Vec<_> =
        answer.endpoints.iter().map(|one| (one.address.to_string(), &*one.host, one.priority, one.weight)).collect();
    found.sort();
    found
}

fn address(address: &str, host: &'static str) -> (String, &'static str, u16, u16) {
    (address.to_owned(), host, 0, 1)
}

#[tokio::test]
async fn both_families_are_asked_unless_one_is_chosen() {
    let script = Script::default().says("db.test.", RecordType::A, 30, &[ip("10.0.0.1"), ip("10.0.0.2")]).says(
        "db.test.",
        RecordType::AAAA,
        20,
        &[ip("fd00::1")],
    );
    let (v4, v6) =
        ([address("10.0.0.1:80", "db.test"), address("10.0.0.2:80", "db.test")], address("[fd00::1]:80", "db.test"));
    let any = script.addresses("db.test.", AddressFamily::Any).await;
    assert_eq!(found(&any), [&v4[..], std::slice::from_ref(&v6)].concat());
    assert_eq!(any.ttl, Duration::from_secs(20), "the lower TTL counts");
    assert_eq!(found(&script.addresses("db.test.", AddressFamily::V4).await), v4);
    assert_eq!(found(&script.addresses("db.test.", AddressFamily::V6).await), [v6]);
}

#[tokio::test]
async fn a_family_that_fails_makes_the_look_up_fail_in_part() {
    let script =
        Script::default().says("db.test.", RecordType::A, 30, &[ip("10.0.0.1")]).fails("db.test.", RecordType::AAAA);
    let answer = script.addresses("db.test.", AddressFamily::Any).await;
    assert_eq!(found(&answer), [address("10.0.0.1:80", "db.test")]);
    assert_eq!((answer.failure.is_some(), &*answer.failed_hosts), (true, &["db.test".into()][..]));
    assert!(script.addresses("db.test.", AddressFamily::V4).await.failure.is_none(), "it was not asked");
}

#[tokio::test]
async fn the_unspecified_address_is_none() {
    let script = Script::default().says("db.test.", RecordType::A, 30, &[ip("0.0.0.0")]).says(
        "db.test.",
        RecordType::AAAA,
        30,
        &[ip("::")],
    );
    let answer = script.addresses("db.test.", AddressFamily::Any).await;
    assert!(answer.endpoints.is_empty() && answer.failure.is_none());
}

#[tokio::test]
async fn the_first_candidate_with_records_answers() {
    let mut script = Script::default()
        .says("db.b.", RecordType::A, 30, &[ip("10.0.0.1")])
        .says("db.c.", RecordType::A, 30, &[ip("10.0.0.2")])
        .says("db.c.", RecordType::AAAA, 30, &[ip("fd00::2")]);
    script.search = ["db.a.", "db.b.", "db.c."].map(absolute).to_vec();
    let answer = script.addresses("DB", AddressFamily::Any).await;
    assert_eq!(found(&answer), [address("10.0.0.1:80", "db")], "no other name is mixed in");
}

#[tokio::test]
async fn a_candidate_that_fails_ends_the_search() {
    let mut script =
        Script::default().fails("db.a.", RecordType::A).says("db.b.", RecordType::A, 30, &[ip("10.0.0.1")]);
    script.search = ["db.a.", "db.b."].map(absolute).to_vec();
    let answer = script.addresses("db", AddressFamily::Any).await;
    assert!(answer.endpoints.is_empty() && answer.failure.is_some());
}

#[tokio::test]
async fn services_have_the_addresses_of_their_targets() {
    let script = Script::default()
        .says("_web._tcp.test.", RecordType::SRV, 30, &[srv(1, 5, 80, "a.test."), srv(2, 7, 81, "B.Test.")])
        .says("a.test.", RecordType::A, 40, &[ip("10.0.0.1"), ip("10.0.0.2")])
        .says("B.Test.", RecordType::AAAA, 10, &[ip("fd00::1")]);
    let answer = script.services().await;
    let expected = [
        ("10.0.0.1:80".to_owned(), "a.test", 1, 5),
        ("10.0.0.2:80".to_owned(), "a.test", 1, 5),
        ("[fd00::1]:81".to_owned(), "b.test", 2, 7),
    ];
    assert_eq!(found(&answer), expected);
    assert_eq!(answer.ttl, Duration::from_secs(10), "the TTL of an address counts");
    assert!(answer.failure.is_none());
    let answer = script.says("_web._tcp.test.", RecordType::SRV, 5, &[srv(1, 5, 80, "a.test.")]).services().await;
    assert_eq!(answer.ttl, Duration::from_secs(5), "and that of an SRV record");
}

#[tokio::test]
async fn a_target_that_fails_makes_the_look_up_fail_in_part_and_one_without_addresses_does_not() {
    let script = Script::default()
        .says("_web._tcp.test.", RecordType::SRV, 30, &[srv(1, 1, 80, "a.test."), srv(1, 1, 80, "b.test.")])
        .says("a.test.", RecordType::A, 30, &[ip("10.0.0.1")]);
    let answer = script.services().await;
    assert!(answer.endpoints.len() == 1 && answer.failure.is_none());
    let answer = script.fails("b.test.", RecordType::A).services().await;
    assert!(answer.endpoints.len() == 1 && answer.failure.is_some());
    assert_eq!(answer.failed_hosts, ["b.test".into()]);
}

#[tokio::test]
async fn records_that_fail_or_offer_nothing_have_no_endpoints() {
    let failed = Script::default().fails("_web._tcp.test.", RecordType::SRV).services().await;
    assert!(failed.endpoints.is_empty() && failed.failure.is_some());
    let script = Script::default()
        .says("_web._tcp.test.", RecordType::SRV, 30, &[srv(0, 0, 80, "."), srv(0, 0, 0, "a.test.")])
        .says(".", RecordType::A, 30, &[ip("10.0.0.9")])
        .says("a.test.", RecordType::A, 30, &[ip("10.0.0.1")]);
    let answer = script.services().await;
    assert!(answer.endpoints.is_empty() && answer.failure.is_none());
}
