//! Settings as flags.

use std::any::TypeId;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::mem;

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use super::value::Value;
use super::{PoolConfig, Setting, Visit};

/// The prefix of the flags of a [`PrefixedConfig`]. Feature `clap`.
pub trait FlagPrefix {
    /// The prefix without the dashes: `cache` for `--cache-max-rps`.
    const PREFIX: &'static str;
}

/// A [`PoolConfig`] whose flags have a prefix, for a program with several pools. Feature `clap`.
///
/// # Examples
///
/// ```
/// use clap::Parser;
/// use connring::{FlagPrefix, PoolConfig, PrefixedConfig};
///
/// struct Cache;
///
/// impl FlagPrefix for Cache {
///     const PREFIX: &'static str = "cache";
/// }
///
/// #[derive(Parser, Debug, Clone)]
/// struct Flags {
///     #[command(flatten)]
///     pool: PoolConfig,
///     #[command(flatten)]
///     cache: PrefixedConfig<Cache>,
/// }
///
/// let flags = Flags::parse_from(["service", "--max-conns-per-server", "4", "--cache-max-conns-per-server", "2"]);
/// assert_eq!(flags.pool.max_conns_per_server, Some(4));
/// assert_eq!(flags.cache.config.max_conns_per_server, Some(2));
/// ```
pub struct PrefixedConfig<P> {
    /// The settings.
    pub config: PoolConfig,
    prefix: PhantomData<fn() -> P>,
}

// Written by hand: the prefix need not be any of these.
impl<P> fmt::Debug for PrefixedConfig<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixedConfig").field("config", &self.config).finish()
    }
}

impl<P> Clone for PrefixedConfig<P> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone(), prefix: PhantomData }
    }
}

impl<P> Default for PrefixedConfig<P> {
    fn default() -> Self {
        Self { config: PoolConfig::default(), prefix: PhantomData }
    }
}

impl<P> PartialEq for PrefixedConfig<P> {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

/// A flag for each setting but `name`: its name with dashes, such as `--max-conns-per-server`. Feature `clap`.
impl Args for PoolConfig {
    fn augment_args(command: Command) -> Command {
        add("", command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        add("", command)
    }
}

impl FromArgMatches for PoolConfig {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(given("", matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = given("", matches).or(mem::take(self));
        Ok(())
    }
}

impl<P: FlagPrefix> Args for PrefixedConfig<P> {
    fn augment_args(command: Command) -> Command {
        add(P::PREFIX, command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        add(P::PREFIX, command)
    }
}

impl<P: FlagPrefix> FromArgMatches for PrefixedConfig<P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self { config: given(P::PREFIX, matches), prefix: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.config = given(P::PREFIX, matches).or(mem::take(&mut self.config));
        Ok(())
    }
}

/// Adds the flags to a command.
fn add(prefix: &'static str, command: Command) -> Command {
    let mut flags = Flags { prefix, args: Vec::new() };
    let Ok(()) = PoolConfig::default().visit(&mut flags);
    command.args(flags.args)
}

/// The settings that were given as flags.
fn given(prefix: &'static str, matches: &ArgMatches) -> PoolConfig {
    let mut config = PoolConfig::default();
    let Ok(()) = config.visit(&mut Given { prefix, matches });
    config
}

/// The name of a setting's flag, without the dashes in front. The pool's name has none: it is the program's choice, and
/// `--name` would be too common.
fn flag(prefix: &str, key: &str) -> Option<String> {
    let key = key.replace('_', "-");
    (key != "name").then(|| if prefix.is_empty() { key } else { format!("{prefix}-{key}") })
}

struct Flags {
    prefix: &'static str,
    args: Vec<Arg>,
}

impl Visit for Flags {
    type Error = Infallible;

    fn setting<T: Value>(&mut self, setting: Setting<'_, T>) -> Result<(), Infallible> {
        let Some(flag) = flag(self.prefix, setting.key) else { return Ok(()) };
        let mut help = setting.help.trim().trim_end_matches('.').to_owned();
        // Not clap's own default: a flag that is not given must not override a file.
        if let Some(default) = setting.default {
            help += &format!(" [default: {default}]");
        }
        let heading = if self.prefix.is_empty() { "Pool".to_owned() } else { format!("Pool ({})", self.prefix) };
        let mut arg = Arg::new(flag.clone()).long(flag).value_name(T::NAME).value_parser(T::parse).help(help);
        if TypeId::of::<T>() == TypeId::of::<bool>() {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        }
        // A negative number is a wrong value of this flag, not an unknown flag.
        self.args.push(arg.help_heading(heading).allow_negative_numbers(true));
        Ok(())
    }
}

struct Given<'a> {
    prefix: &'static str,
    matches: &'a ArgMatches,
}

impl Visit for Given<'_> {
    type Error = Infallible;

    fn setting<T: Value>(&mut self, setting: Setting<'_, T>) -> Result<(), Infallible> {
        *setting.value = flag(self.prefix, setting.key).and_then(|flag| self.matches.get_one(&flag).cloned());
        Ok(())
    }
}
