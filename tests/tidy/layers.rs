//! Which unit of the crate may name which, and call whose methods.

use std::collections::BTreeMap;

use super::{Fault, code, is_in_src, is_tests, names};

/// Which unit may name which, and call whose methods: those of a line may name those of the lines below, and of the
/// same line where it is one module in several files. Arrows run one way, and a new unit gets a place here. In `core`
/// each file is a unit; elsewhere each module.
const LAYERS: &[&[&str]] = &[
    &["lib", "core::tests", "guide", "metrics", "operators"],
    &["aliases"],
    &["pool", "builder"],
    &["conn"],
    &["core"],
    &["core::follow", "core::hot", "core::wait", "core::warm_up"],
    &["core::acquire"],
    &["core::background"],
    &["core::ratio", "core::probes", "core::settle", "core::sweep"],
    &["core::refill"],
    &["core::order"],
    &["core::attempt"],
    &["core::disable"],
    &["core::membership", "core::release"],
    &["core::idle_check"],
    &["core::transition"],
    &["core::idle_conns"],
    &["core::closing", "core::hand_over", "core::report"],
    &["core::candidates"],
    &["core::hook", "core::look_again", "core::outage", "core::spill"],
    &["core::shared"],
    &["core::attempt_counts", "core::due_times", "core::grant", "core::plan", "core::random", "core::runtime"],
    &["core::drops", "core::first_sets", "core::wish"],
    &["config"],
    &["settings"],
    &["acquire_options", "ejection", "follow"],
    &["range"],
    &["servers"],
    &["server", "connector", "conn_info", "observer"],
    &["clock", "error", "load_balancing", "reports", "status"],
    &["close_reason", "keyed"],
    &["raw"],
    &["sync"],
];

/// The units that may name each other, since together they are one thing: a pool and its builder; a server, its
/// connector, its connections and what is observed of them; the plain values.
const MAY_MEET: &[&[&str]] = &[
    &["pool", "builder"],
    &["server", "connector", "conn_info", "observer"],
    &["clock", "error", "load_balancing", "status"],
];

/// Methods of the crate that types of the standard library or of other crates have too.
const COMMON_METHODS: &[&str] = &[
    "build", "clone", "close", "count", "drop", "end", "finish", "fmt", "get", "is_empty", "iter", "len", "load",
    "new", "next", "or", "poll", "pop", "push", "put", "remove", "retain", "source", "swap", "take", "upgrade", "wake",
];

/// The unit that a file belongs to: `src/server/mod.rs` and `src/server/record.rs` to `server`, `src/core/wait.rs` to
/// `core::wait`.
fn unit_of(path: &str) -> String {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    match path.split('/').collect::<Vec<_>>()[..] {
        ["core", file, ..] if file != "mod" => format!("core::{file}"),
        [first, ..] => first.to_owned(),
        [] => path.to_owned(),
    }
}

fn layer_of(unit: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&unit))
}

/// Whether one unit may name another, or call its methods.
fn may_use(unit: &str, used: &str) -> bool {
    let (Some(layer), Some(below)) = (layer_of(unit), layer_of(used)) else { return false };
    unit == used || below > layer || MAY_MEET.iter().any(|meet| meet.contains(&unit) && meet.contains(&used))
}

/// The units that a line names of the crate by `crate::`.
pub(super) fn crate_paths(line: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut units = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let rest = &line[at + found.len()..];
        let first = word(rest);
        let in_core = rest.strip_prefix("core::").filter(|_| first == "core");
        let named: Vec<_> = match in_core {
            // A group names several files.
            Some(group) if group.starts_with('{') => {
                let group = group.trim_start_matches('{').split('}').next().unwrap_or_default();
                group.split(',').map(|item| word(item.trim())).collect()
            }
            Some(rest) => vec![word(rest)],
            None => Vec::new(),
        };
        let files = named.iter().map(|name| format!("core::{name}")).filter(|unit| layer_of(unit).is_some());
        let files: Vec<_> = files.collect();
        match files.is_empty() {
            true => units.push(first),
            false => units.extend(files),
        }
    }
    units
}

/// Whether a line climbs by `super::` to the root of the crate, from where all modules can be named.
fn leaves_module(path: &str, line: &str) -> bool {
    let is_root_of_module = usize::from(path.ends_with("/mod.rs"));
    let depth = path.matches('/').count() - 1 - is_root_of_module;
    names(line, &"super::".repeat(depth + 1))
}

pub(super) fn imports_run_one_way(path: &str, text: &str) -> Vec<Fault> {
    if !is_in_src(path) {
        return Vec::new();
    }
    let unit = unit_of(path);
    if layer_of(&unit).is_none() {
        return vec![(1, format!("`{unit}` has no layer"))];
    }
    let mut faults = Vec::new();
    for (number, line) in code(text) {
        if leaves_module(path, line) {
            faults.push((number, format!("`super::` leads out of `{unit}`")));
        }
        for named in crate_paths(line) {
            if layer_of(&named).is_none() {
                faults.push((number, format!("`crate::{named}` is not a module: name it by its module")));
            } else if !may_use(&unit, &named) {
                faults.push((number, format!("`{unit}` names `{named}`, which is not below it")));
            }
        }
    }
    faults
}

/// The methods that one unit alone defines, with that unit. A name that several units define, or that the standard
/// library has too, tells nothing.
pub(super) fn methods_of_units<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let mut methods: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (path, text) in files.filter(|(path, _)| is_in_src(path) && !is_tests(path)) {
        let unit = unit_of(path);
        let lines: Vec<_> = code(text).map(|(_, line)| line).collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((_, rest)) = line.split_once("fn ") else { continue };
            // `self` may stand on the line after the name.
            let takes_self = [Some(rest), lines.get(index + 1).copied()].into_iter().flatten();
            if !line.starts_with(' ')
                || !takes_self.take(1 + usize::from(rest.ends_with('('))).any(|l| names(l, "self"))
            {
                continue;
            }
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let owner = methods.entry(name).or_insert_with(|| Some(unit.clone()));
            if owner.as_ref().is_some_and(|owner| *owner != unit) {
                *owner = None;
            }
        }
    }
    let known = |name: &String| !COMMON_METHODS.contains(&name.as_str());
    methods.into_iter().filter(|(name, _)| known(name)).filter_map(|(name, unit)| Some((name, unit?))).collect()
}

/// The calls in a file of methods that a unit above it defines.
pub(super) fn calls_run_one_way(methods: &BTreeMap<String, String>, path: &str, text: &str) -> Vec<Fault> {
    if !is_in_src(path) || is_tests(path) {
        return Vec::new();
    }
    let unit = unit_of(path);
    let mut faults = Vec::new();
    for (number, line) in code(text) {
        for (at, _) in line.match_indices('.') {
            let name: String = line[at + 1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !line[at + 1 + name.len()..].starts_with('(') {
                continue;
            }
            if let Some(owner) = methods.get(&name).filter(|owner| !may_use(&unit, owner)) {
                faults.push((number, format!("`{unit}` calls `{name}` of `{owner}`, which is not below it")));
            }
        }
    }
    faults
}
