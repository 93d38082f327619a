//! The headers that a proxy removes and adds (RFC 9110, section 7.6).

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Removes what concerns one connection alone: a fixed list, and what `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let values: Vec<_> = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).collect();
    let names = values.iter().flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    let named: Vec<HeaderName> = names.collect();
    let fixed = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.iter().chain(&fixed) {
        headers.remove(name);
    }
}

/// Appends the client's address to `X-Forwarded-For`.
pub(crate) fn add_forwarded_for(headers: &mut HeaderMap, from: IpAddr) {
    let mut addresses: Vec<u8> = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        addresses.extend_from_slice(value.as_bytes());
        addresses.extend_from_slice(b", ");
    }
    addresses.extend_from_slice(from.to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&addresses) {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_hop_by_hop(list: &[(&'static str, &str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, value.parse().unwrap());
        }
        remove_hop_by_hop(&mut map);
        map.keys().map(|name| name.to_string()).collect()
    }

    #[test]
    fn headers_of_one_connection_and_those_that_it_names_are_removed() {
        let kept = without_hop_by_hop(&[
            ("accept", "*/*"),
            ("connection", "close, X-Mine"),
            ("connection", "x-other, b@d"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("x-kept", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic secret"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(kept, ["accept", "x-kept"]);
    }

    #[test]
    fn address_of_the_client_comes_after_those_before_it() {
        let mut map = HeaderMap::new();
        add_forwarded_for(&mut map, IpAddr::from([192, 0, 2, 1]));
        map.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.2, 192.0.2.3"));
        add_forwarded_for(&mut map, IpAddr::from([192, 0, 2, 4]));
        let values: Vec<_> = map.get_all(FORWARDED_FOR).iter().collect();
        assert_eq!(values, ["192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4"]);
    }
}
