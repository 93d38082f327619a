//! Settings of a pool from a file.

use std::time::Duration;

use connring::{LoadBalancing, Pool, PoolConfig, Server, TcpConnector};
use serde::{Deserialize, Serialize};

/// Each setting, with another value than its default.
pub(crate) const EVERY_SETTING: &str = r#"
name = "sessions"
servers = [
    "10.0.0.1:6379",
    { address = "10.0.0.2:6379", weight = 3 },
    { name = "far", address = "10.1.0.1:6379", max_conns = 4, max_rps = 2.5, burst = 7, tier = 1, tags.zone = "b" },
]
max_conns_per_server = 11
max_idle_per_server = 6
min_idle_per_server = 2
max_rps = 500
burst = 20
max_concurrent_connects_per_server = 3
connect_timeout = "250ms"
hedge_delay = "70ms"
init_backoff_interval = "200ms"
max_backoff_interval = "2m"
backoff_multiplier = 2.0
backoff_spread_ratio = 0.25
outage_retry = "none"
ejection_consecutive_failures = 3
ejection_failure_ratio = 0.75
ejection_min_results = 12
ejection_max_ejected_ratio = 0.3
ejection_base = "3s"
ejection_max = "1m 30s"
ejection_enforce = false
abandoned_after = "none"
fail_fast_when_down = true
goodbye_timeout = "100us"
wait_timeout = "none"
max_waiters = 100
idle_timeout = "none"
idle_check_interval = "15s"
max_lifetime = "1h"
max_lifetime_jitter_ratio = 0.1
maintenance = false
exact_times = true
load_balancing = "least-in-use"
slow_start = "10s"
spill_when_full = true
"#;

pub(crate) fn read(text: &str) -> PoolConfig {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The text of a builder with these settings, from which the pool is built.
pub(crate) fn shown(config: PoolConfig) -> String {
    format!("{:?}", Pool::builder(TcpConnector::new()).config(config))
}

fn refused(text: &str) -> String {
    toml::from_str::<PoolConfig>(text).expect_err(text).message().to_owned()
}

#[test]
fn every_setting_of_builder_can_be_given() {
    // Those of a server have the same names.
    let mut config = read(EVERY_SETTING);
    config.servers = None;
    let given = shown(config);
    let default = shown(PoolConfig::default());
    let given: Vec<_> = given.split(", ").collect();
    let same: Vec<_> = default.split(", ").filter(|setting| given.contains(setting)).collect();
    assert_eq!(same, ["seed: None }", "servers: []", "clock: None", "runtime: None", ".. }"]);
}

#[test]
fn empty_file_leaves_builder_as_it_is() {
    assert_eq!(read(""), PoolConfig::default());
    let builder = || Pool::builder(TcpConnector::new()).max_conns_per_server(4).idle_timeout(None).server("a:1");
    assert_eq!(format!("{:?}", builder().config(read(""))), format!("{:?}", builder()));
}

#[test]
fn settings_survive_round_trip() {
    for config in [read(EVERY_SETTING), PoolConfig::default(), read("idle_timeout = \"1d 2h 3m 4s 5ms 6us 7ns\"")] {
        let text = toml::to_string(&config).expect("TOML has all kinds of values");
        assert_eq!(read(&text), config, "{text}");
        let text = serde_json::to_string(&config).expect("JSON has all kinds of values");
        assert_eq!(serde_json::from_str::<PoolConfig>(&text).expect(&text), config);
    }
    assert_eq!(toml::to_string(&PoolConfig::default()).as_deref(), Ok(""));
    assert_eq!(
        toml::to_string(&read("servers = [{ address = \"a:1\" }]\nwait_timeout = \"none\"")).as_deref(),
        Ok("servers = [\"a:1\"]\nwait_timeout = \"none\"\n")
    );
}

#[test]
fn durations_are_texts_with_units() {
    for (text, duration) in [
        ("250ms", Duration::from_millis(250)),
        ("2m", Duration::from_secs(120)),
        ("1h 30m", Duration::from_secs(5_400)),
        ("1h30m", Duration::from_secs(5_400)),
        ("10us", Duration::from_micros(10)),
    ] {
        let config = read(&format!("connect_timeout = \"{text}\"\nidle_timeout = \"{text}\""));
        assert_eq!((config.connect_timeout, config.idle_timeout), (Some(duration), Some(Some(duration))), "{text}");
    }
    assert_eq!(read("idle_timeout = \"none\"").idle_timeout, Some(None));
}

#[test]
fn policies_have_names() {
    for (name, policy) in [
        ("round-robin", LoadBalancing::RoundRobin),
        ("weighted", LoadBalancing::Weighted),
        ("least-in-use", LoadBalancing::LeastInUse),
    ] {
        assert_eq!(read(&format!("load_balancing = \"{name}\"")).load_balancing, Some(policy));
    }
}

#[test]
fn server_is_text_or_table() {
    let far = Server::named("far", "10.1.0.1:6379").max_conns(4).max_rps(2.5).burst(7).tier(1).tag("zone", "b");
    let servers = [Server::new("10.0.0.1:6379"), Server::new("10.0.0.2:6379").weight(3), far];
    assert_eq!(read(EVERY_SETTING).servers.as_deref(), Some(&servers[..]));
    let text = serde_json::to_string(&servers).expect("JSON has all kinds of values");
    assert_eq!(serde_json::from_str::<Vec<Server>>(&text).expect("a list of its own"), servers);
}

#[test]
fn errors_name_key_and_value() {
    let duration = "a duration with a unit, such as \"250ms\" or \"2m\"";
    for (text, message) in [
        ("connect_timeout = 250", format!("connect_timeout: invalid type: integer `250`, expected {duration}")),
        ("connect_timeout = 2.5", format!("connect_timeout: invalid type: floating point `2.5`, expected {duration}")),
        ("connect_timeout = \"250\"", format!("connect_timeout: invalid value: string \"250\", expected {duration}")),
        ("connect_timeout = \"0\"", format!("connect_timeout: invalid value: string \"0\", expected {duration}")),
        ("connect_timeout = \"none\"", format!("connect_timeout: invalid value: string \"none\", expected {duration}")),
        ("hedge_delay = \"2 x\"", format!("hedge_delay: invalid value: string \"2 x\", expected {duration}")),
        ("idle_timeout = 3", format!("idle_timeout: invalid type: integer `3`, expected {duration}, or \"none\"")),
        (
            "idle_timeout = false",
            format!("idle_timeout: invalid type: boolean `false`, expected {duration}, or \"none\""),
        ),
        (
            "max_lifetime = \"never\"",
            format!("max_lifetime: invalid value: string \"never\", expected {duration}, or \"none\""),
        ),
    ] {
        assert_eq!(refused(text), message);
    }
    for (text, message) in [
        ("max_conns_per_server = \"ten\"", "max_conns_per_server: invalid type: string \"ten\", expected u32"),
        ("max_conns_per_server = -1", "max_conns_per_server: invalid value: integer `-1`, expected u32"),
        ("max_rps = \"x\"", "max_rps: invalid type: string \"x\", expected f64"),
        ("maintenance = 1", "maintenance: invalid type: integer `1`, expected a boolean"),
        ("name = 3", "name: invalid type: integer `3`, expected a string"),
        (
            "load_balancing = \"fair\"",
            "load_balancing: invalid value: string \"fair\", expected \"round-robin\", \"weighted\" or \
             \"least-in-use\"",
        ),
        ("servers = 3", "invalid type: integer `3`, expected servers, a list of addresses and tables"),
        ("servers = [3]", "invalid type: integer `3`, expected a server: its address as text, or a table"),
        (
            "servers = [{ address = \"a:1\", max_rps = \"x\" }]",
            "server max_rps: invalid type: string \"x\", expected f64",
        ),
        (
            "servers = [{ address = \"a:1\", tags = { zone = 3 } }]",
            "server tags: invalid type: integer `3`, expected a string",
        ),
        ("servers = [{ name = \"a\" }]", "missing field `address`"),
        (
            "servers = [{ adress = \"a:1\" }]",
            "unknown field `adress`, expected one of `name`, `address`, `max_conns`, `max_rps`, `burst`, `weight`, \
             `tier`, `tags`",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
    let unknown = refused("max_conns = 3");
    assert!(unknown.starts_with("unknown field `max_conns`, expected one of `name`, `servers`, "), "{unknown}");
    assert!(unknown.ends_with(", `slow_start`, `spill_when_full`"), "{unknown}");
}

#[test]
fn errors_show_place() {
    let text = "[[servers]]\naddress = \"a:1\"\n\n[[servers]]\naddress = \"b:1\"\nweight = \"x\"\n";
    assert_eq!(
        toml::from_str::<PoolConfig>(text).expect_err(text).to_string(),
        "TOML parse error at line 6, column 10\n  |\n6 | weight = \"x\"\n  |          ^^^\n\
         server weight: invalid type: string \"x\", expected u32\n"
    );
    for (text, message) in [
        (
            "{\"connect_timeout\": 250}",
            "connect_timeout: invalid type: integer `250`, expected a duration with a unit, such as \"250ms\" or \
             \"2m\" at line 1 column 23",
        ),
        (
            "{\"idle_timeout\": null}",
            "idle_timeout: invalid type: null, expected a duration with a unit, such as \"250ms\" or \"2m\", or \
             \"none\" at line 1 column 21",
        ),
        ("{\"burst\": 1, \"burst\": 2}", "duplicate field `burst` at line 1 column 20"),
        ("[3]", "invalid type: sequence, expected a table of settings of a pool at line 1 column 1"),
    ] {
        assert_eq!(serde_json::from_str::<PoolConfig>(text).expect_err(text).to_string(), message);
    }
}

#[test]
fn build_checks_ranges() {
    for (text, message) in [
        ("max_conns_per_server = 0", "max_conns_per_server is 0, outside 1..=16777215"),
        ("connect_timeout = \"0s\"", "connect_timeout is 0ns, outside 1ns..=31536000s"),
        (
            "max_backoff_interval = \"50ms\"",
            "max_backoff_interval is 50ms, outside 100ms (init_backoff_interval)..=31536000s",
        ),
        ("ejection_base = \"1us\"", "ejection_base is 1µs, outside 1ms..=31536000s"),
        ("name = \"\"", "pool name is empty"),
        ("servers = [{ address = \"a:1\", tier = 16 }]", "server \"a:1\": tier is 16, outside 0..=15"),
        ("servers = [\"a:1\", \"a:1\"]", "server \"a:1\" is registered already or listed twice"),
    ] {
        let pool = Pool::builder(TcpConnector::new()).config(read(text)).build();
        assert_eq!(pool.expect_err(text).to_string(), message);
    }
}

#[test]
fn error_of_range_names_the_key() {
    let refusal = |key: &str, value: &str| {
        let config = read(&format!("{key} = {value}"));
        Some(Pool::builder(TcpConnector::new()).config(config).build().err()?.to_string())
    };
    let mut keys = Vec::new();
    // Not the entries of the list of servers.
    let lines = EVERY_SETTING.lines().filter(|line| !line.starts_with(' '));
    for (key, value) in lines.filter_map(|line| line.split_once(" = ")) {
        let extremes = match value.parse::<f64>() {
            Ok(_) => ["0", "4000000000"],
            Err(_) if value == "\"none\"" || value.starts_with('"') && value.contains(char::is_numeric) => {
                ["\"0s\"", "\"9000d\""]
            }
            Err(_) => continue,
        };
        let refusals: Vec<_> = extremes.iter().filter_map(|value| refusal(key, value)).collect();
        assert!(!refusals.is_empty(), "{key} has no range");
        assert!(refusals.iter().all(|text| text.contains(key) && text.contains("outside")), "{key}: {refusals:?}");
        keys.push(key);
    }
    // All but texts, choices and the list of servers.
    assert_eq!(keys.len(), 28, "{keys:?}");
    // Of two settings that do not fit the error names both, since one may be a default.
    for (key, value) in [("init_backoff_interval", "\"6s\""), ("ejection_base", "\"1m\"")] {
        let text = refusal(key, value).expect(key);
        assert!(text.contains(key), "{key}: {text}");
    }
}

#[test]
fn servers_of_file_replace_those_of_builder() {
    let builder = || Pool::builder(TcpConnector::new()).server("a:1");
    let names = |text| {
        let pool = builder().config(read(text)).server("c:1").build().expect("the settings are in range");
        pool.servers().iter().map(|server| server.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("servers = [\"b:1\"]"), ["b:1", "c:1"]);
    assert_eq!(names("servers = []"), ["c:1"]);
    assert_eq!(names(""), ["a:1", "c:1"]);
}

#[test]
fn settings_stand_among_those_of_program() {
    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Program {
        #[serde(flatten)]
        sessions: PoolConfig,
        #[serde(flatten)]
        listen: Listen,
        #[serde(default)]
        cache: PoolConfig,
    }
    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Listen {
        port: u16,
    }
    let text = format!("port = 80\n{EVERY_SETTING}[cache]\nconnect_timeout = \"1s\"\n");
    let program: Program = toml::from_str(&text).expect("both are there");
    assert_eq!((program.listen.port, &program.sessions), (80, &read(EVERY_SETTING)));
    assert_eq!(program.cache, read("connect_timeout = \"1s\""));
    let written = toml::to_string(&program).expect("TOML has all kinds of values");
    assert_eq!(toml::from_str::<Program>(&written).expect(&written), program);
    let error = toml::from_str::<Program>("port = 80\nconnect_timeout = 1").expect_err("no unit");
    assert_eq!(
        error.message(),
        "connect_timeout: invalid type: integer `1`, expected a duration with a unit, such as \"250ms\" or \"2m\""
    );
}
