//! Settings of a pool from flags.

use std::time::Duration;

use clap::{CommandFactory, Parser};
use connring::{FlagPrefix, LoadBalancing, PoolConfig, PrefixedConfig, Server};

use crate::file::{EVERY_SETTING, read, shown};

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    pool: PoolConfig,
    #[command(flatten)]
    cache: PrefixedConfig<Cache>,
}

#[derive(Debug)]
struct Cache;

impl FlagPrefix for Cache {
    const PREFIX: &'static str = "cache";
}

fn parse(flags: &[&str]) -> Program {
    Program::try_parse_from(["program"].iter().chain(flags)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(flags: &[&str]) -> String {
    let error = Program::try_parse_from(["program"].iter().chain(flags)).expect_err("a flag is wrong").to_string();
    error.lines().next().expect("an error has a text").to_owned()
}

#[test]
fn flags_of_goconnpool_are_there() {
    let config = parse(&[
        "--max-conns-per-server=4",
        "--max-rps=100",
        "--connect-timeout=250ms",
        "--init-backoff-interval=10ms",
        "--max-backoff-interval=30s",
    ])
    .pool;
    assert_eq!((config.max_conns_per_server, config.max_rps), (Some(4), Some(100.0)));
    assert_eq!(config.connect_timeout, Some(Duration::from_millis(250)));
    let backoff = (config.init_backoff_interval, config.max_backoff_interval);
    assert_eq!(backoff, (Some(Duration::from_millis(10)), Some(Duration::from_secs(30))));
}

#[test]
fn every_setting_but_name_has_flag() {
    let command = Program::command();
    let every: toml::Table = EVERY_SETTING.parse().expect("a valid file");
    assert_eq!(every.len(), 36);
    for key in every.keys() {
        let flag = key.replace('_', "-");
        let has = |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
        let expected = key != "name";
        assert_eq!((has(&flag), has(&format!("cache-{flag}"))), (expected, expected), "{key}");
    }
}

#[test]
fn help_shows_defaults_of_builder() {
    let command = Program::command();
    let defaults = command.get_arguments().filter_map(|arg| {
        let help = arg.get_help()?.to_string();
        let default = help.split_once("[default: ")?.1.trim_end_matches(']');
        Some(format!("--{}={default}", arg.get_long()?))
    });
    let defaults: Vec<_> = defaults.filter(|flag| !flag.starts_with("--cache-")).collect();
    assert_eq!(defaults.len(), 29, "all but the servers, and what depends on other settings");
    let config = parse(&defaults.iter().map(|flag| &**flag).collect::<Vec<_>>()).pool;
    assert_eq!(shown(config), shown(PoolConfig::default()));

    let help = Program::command().render_help().to_string();
    for line in [
        "Pool:\n",
        "Pool (cache):\n",
        "      --connect-timeout <DURATION>\n",
        "          How long a connect attempt may take before it counts as failed [default: 5s]\n",
        "      --cache-idle-timeout <DURATION|none>\n",
        "      --exact-times[=<true|false>]\n",
    ] {
        assert!(help.contains(line), "{line} is not in\n{help}");
    }
}

#[test]
fn flags_override_file_and_absent_flags_do_not() {
    assert_eq!(parse(&[]).pool, PoolConfig::default());
    assert_eq!(parse(&[]).pool.or(read(EVERY_SETTING)), read(EVERY_SETTING));
    assert_eq!(read(EVERY_SETTING).or(parse(&["--max-rps=1", "--servers=a:1"]).pool), read(EVERY_SETTING));

    let flags = parse(&["--max-rps=1", "--idle-timeout=2m", "--max-lifetime=none", "--servers=a:1,b:1"]).pool;
    let mut expected = read(EVERY_SETTING);
    expected.max_rps = Some(1.0);
    expected.idle_timeout = Some(Some(Duration::from_secs(120)));
    expected.max_lifetime = Some(None);
    expected.servers = Some(vec![Server::new("a:1"), Server::new("b:1")]);
    assert_eq!(flags.or(read(EVERY_SETTING)), expected);
}

#[test]
fn switches_need_no_value() {
    let config = parse(&["--exact-times", "--maintenance=false", "--spill-when-full=true"]).pool;
    assert_eq!((config.exact_times, config.maintenance), (Some(true), Some(false)));
    assert_eq!((config.spill_when_full, config.fail_fast_when_down), (Some(true), None));
    assert_eq!(parse(&["--load-balancing=weighted"]).pool.load_balancing, Some(LoadBalancing::Weighted));
}

#[test]
fn prefix_tells_pools_apart() {
    let program = parse(&["--max-conns-per-server=4", "--cache-max-conns-per-server=2", "--cache-wait-timeout=none"]);
    assert_eq!(program.pool, read("max_conns_per_server = 4"));
    assert_eq!(program.cache.config, read("max_conns_per_server = 2\nwait_timeout = \"none\""));
}

#[test]
fn update_keeps_settings_that_are_not_given() {
    let mut program = parse(&["--max-conns-per-server=4", "--burst=3", "--cache-burst=5", "--cache-max-rps=1"]);
    program.update_from(["program", "--burst=7", "--cache-burst=8"]);
    assert_eq!(program.pool, read("max_conns_per_server = 4\nburst = 7"));
    assert_eq!(program.cache.config, read("max_rps = 1\nburst = 8"));
}

#[test]
fn errors_name_flag_and_value() {
    let duration = "expected a duration with a unit, such as \"250ms\" or \"2m\"";
    for (flag, message) in [
        ("--connect-timeout=250", format!("error: invalid value '250' for '--connect-timeout <DURATION>': {duration}")),
        (
            "--cache-idle-timeout=never",
            format!("error: invalid value 'never' for '--cache-idle-timeout <DURATION|none>': {duration}, or \"none\""),
        ),
        (
            "--max-conns-per-server=ten",
            "error: invalid value 'ten' for '--max-conns-per-server <N>': invalid digit found in string".to_owned(),
        ),
        ("--max-rps=x", "error: invalid value 'x' for '--max-rps <NUMBER>': invalid float literal".to_owned()),
        (
            "--maintenance=no",
            "error: invalid value 'no' for '--maintenance[=<true|false>]': provided string was not `true` or `false`"
                .to_owned(),
        ),
        (
            "--load-balancing=fair",
            "error: invalid value 'fair' for '--load-balancing <POLICY>': expected \"round-robin\", \"weighted\" or \
             \"least-in-use\""
                .to_owned(),
        ),
        ("--name=x", "error: unexpected argument '--name' found".to_owned()),
    ] {
        assert_eq!(refused(&[flag]), message);
    }
    // As a value of its own: not an unknown flag.
    let negative = "error: invalid value '-1' for '--max-conns-per-server <N>': invalid digit found in string";
    assert_eq!(refused(&["--max-conns-per-server", "-1"]), negative);
    assert_eq!(parse(&["--max-rps", "-1"]).pool.max_rps, Some(-1.0), "building the pool names it");
}
