//! Rules for the source that no lint keeps.
//!
//! Each rule is a function of one file's path and text that returns what is wrong with it, line by line, and has a test
//! in `tidy/fires.rs` that shows it fire. One test applies them all to every file.

#[path = "tidy/fires.rs"]
mod fires;
#[path = "tidy/layers.rs"]
mod layers;

use std::fs;
use std::path::{Path, PathBuf};

use crate::layers::{calls_run_one_way, crate_paths, imports_run_one_way, methods_of_units};

/// What `src/sync.rs` alone may name, so that the kernel compiles against loom's versions.
const PRIMITIVES: &[&str] = &["std::sync", "core::sync", "alloc::sync", "crossbeam_queue", "arc_swap", "parking_lot"];

/// What no file of `src/raw` may name: it imports `crate::sync`, `core` and its own modules, and nothing else.
const FOREIGN_TO_RAW: &[&str] =
    &["std::", "core::sync", "alloc::", "tokio", "crossbeam", "arc_swap", "quanta", "tracing"];

const MAX_LINES: usize = 400;
const MAX_WIDTH: usize = 120;
/// How far above an ordering its reason may stand.
const REASON_WITHIN: usize = 4;

/// The one file that may use `unsafe`.
const UNSAFE_FILE: &str = "src/raw/slot.rs";

/// A line's number, from 1, and what is wrong with it.
type Fault = (usize, String);
type Rule = fn(&str, &str) -> Vec<Fault>;

const RULES: &[(&str, Rule)] = &[
    ("imports run one way", imports_run_one_way),
    ("the kernel stands alone", the_kernel_stands_alone),
    ("one file names the primitives", one_file_names_the_primitives),
    ("orderings have reasons", orderings_have_reasons),
    ("files are short", files_are_short),
    ("selects are biased", selects_are_biased),
    ("nothing is unsafe or left to do", nothing_is_unsafe_or_left_to_do),
    ("models spawn and say what fails them", models_spawn_and_say_what_fails_them),
];

#[test]
fn the_source_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "demos", "fuzz", "loom-tests", "xtask"] {
        find_rust_files(&root.join(folder), &mut files);
    }
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(root).expect("it was found there").to_string_lossy().replace('\\', "/");
        (path, fs::read_to_string(file).expect("a source file can be read"))
    };
    let files: Vec<_> = files.iter().map(read).collect();
    let methods = methods_of_units(files.iter().map(|(path, text)| (&**path, &**text)));
    assert!(methods.len() > 80, "only {} methods were found", methods.len());
    let mut faults = Vec::new();
    for (path, text) in &files {
        let mut found = |name: &str, found: Vec<Fault>| {
            faults.extend(found.into_iter().map(|(line, what)| format!("{path}:{line}: {what} ({name})")));
        };
        RULES.iter().for_each(|(name, rule)| found(name, rule(path, text)));
        found("calls run one way", calls_run_one_way(&methods, path, text));
    }
    assert!(files.len() > 30, "only {} files were found", files.len());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn each_test_that_the_operators_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/operators.md")).expect("the page can be read");
    let is_test = |span: &&str| span.contains("::") && span.starts_with(char::is_lowercase);
    let named: Vec<_> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 30, "only {} tests are named", named.len());
    for name in named {
        let (module, test) = name.rsplit_once("::").expect("it has one");
        let file = root.join("tests/it").join(module.replace("::", "/")).with_extension("rs");
        let tests = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {}: {error}", file.display()));
        assert!(tests.contains(&format!("fn {test}(")), "the page names {name}");
    }
}

fn find_rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    // A package has only some of the folders.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                find_rust_files(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines of a file with their numbers, without comments and without its `mod tests`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests_begin = text.find("\n#[cfg(test)]\nmod tests {").map_or(text.len(), |at| at + 1);
    text[..tests_begin].lines().enumerate().map(|(index, line)| (index + 1, without_comment(line)))
}

/// A line up to its `//`. One in a string, as in an address, cuts the line short too: no rule minds.
fn without_comment(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// Whether `word` is there and is not a part of a longer name.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let whole_end = !word.ends_with(is_part) || !line[at + word.len()..].starts_with(is_part);
        !line[..at].ends_with(is_part) && whole_end
    })
}

fn is_in_src(path: &str) -> bool {
    path.starts_with("src/")
}

/// Unit tests that have a file to themselves.
fn is_tests(path: &str) -> bool {
    path.ends_with("/tests.rs")
}

fn is_kernel(path: &str) -> bool {
    path.starts_with("src/raw/") && !is_tests(path)
}

fn the_kernel_stands_alone(path: &str, text: &str) -> Vec<Fault> {
    if !is_kernel(path) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in code(text) {
        for foreign in FOREIGN_TO_RAW.iter().filter(|foreign| names(line, foreign)) {
            faults.push((number, format!("the kernel names `{foreign}`")));
        }
        for imported in crate_paths(line).into_iter().filter(|imported| imported != "sync") {
            faults.push((number, format!("the kernel imports `crate::{imported}`")));
        }
        let import = line.trim().trim_start_matches("pub(crate) ").strip_prefix("use ");
        let known = ["crate::", "core::", "super::", "self::"];
        if import.is_some_and(|import| !known.iter().any(|root| import.starts_with(root))) {
            faults.push((number, "the kernel imports something else than `crate::sync` and `core`".to_owned()));
        }
    }
    faults
}

fn one_file_names_the_primitives(path: &str, text: &str) -> Vec<Fault> {
    if !is_in_src(path) || is_tests(path) || path == "src/sync.rs" {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in code(text) {
        for primitive in PRIMITIVES.iter().filter(|primitive| names(line, primitive)) {
            faults.push((number, format!("`{primitive}` is named outside src/sync.rs")));
        }
        if line.contains(".lock()") || line.contains(".try_lock()") {
            faults.push((number, "a lock is taken otherwise than by `sync::lock`, where tests count it".to_owned()));
        }
        if line.contains("std::{") || line.trim_start().starts_with("use core::{") {
            faults.push((number, "imports of the standard library stand one module a line".to_owned()));
        }
    }
    faults
}

fn orderings_have_reasons(path: &str, text: &str) -> Vec<Fault> {
    if !is_kernel(path) {
        return Vec::new();
    }
    let lines: Vec<_> = text.lines().collect();
    let mut faults = Vec::new();
    for (number, line) in code(text) {
        for (at, found) in line.match_indices("Ordering::") {
            let ordering = line[at + found.len()..].split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let above = number.saturating_sub(1 + REASON_WITHIN);
            let has_reason = lines[above..number].iter().any(|line| gives_reason(line, ordering));
            if !has_reason {
                faults.push((number, format!("no reason for `{ordering}` in the {REASON_WITHIN} lines above")));
            }
        }
    }
    faults
}

/// Whether a line's comment names the ordering and says something of it. Doc comments are promises, not reasons.
fn gives_reason(line: &str, ordering: &str) -> bool {
    let Some(at) = line.find("//") else { return false };
    let comment = &line[at + 2..];
    !comment.starts_with(['/', '!']) && names(comment, ordering) && comment.split_whitespace().count() > 2
}

fn files_are_short(_path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push((lines, format!("the file has {lines} lines, more than {MAX_LINES}")));
    }
    for (index, line) in text.lines().enumerate() {
        let width = line.chars().count();
        if width > MAX_WIDTH {
            faults.push((index + 1, format!("the line has {width} characters, more than {MAX_WIDTH}")));
        }
    }
    faults
}

fn selects_are_biased(path: &str, text: &str) -> Vec<Fault> {
    if !is_in_src(path) {
        return Vec::new();
    }
    let lines: Vec<_> = text.lines().map(without_comment).collect();
    let is_biased = |index: usize| {
        let after = lines[index].split("select!").nth(1).unwrap_or_default();
        after.contains("biased;") || lines.get(index + 1).is_some_and(|next| next.trim_start().starts_with("biased;"))
    };
    let selects = (0..lines.len()).filter(|&index| names(lines[index], "select!"));
    selects
        .filter(|&index| !is_biased(index))
        .map(|index| (index + 1, "a `select!` without `biased;` decides by lot".to_owned()))
        .collect()
}

fn nothing_is_unsafe_or_left_to_do(path: &str, text: &str) -> Vec<Fault> {
    // The rules name what they forbid.
    if path.starts_with("tests/tidy") {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let is_unsafe = is_in_src(path) && path != UNSAFE_FILE && names(without_comment(line), "unsafe");
        let left = ["TODO", "FIXME", "XXX", "dbg!", "todo!"].into_iter().filter(|word| names(line, word));
        for what in left.chain(is_unsafe.then_some("unsafe")) {
            faults.push((index + 1, format!("`{what}`")));
        }
    }
    faults
}

/// A model is a function of `loom-tests` that calls `check`. One without a second thread checks nothing; one that names
/// no mutation of the code was perhaps never seen to fail.
fn models_spawn_and_say_what_fails_them(path: &str, text: &str) -> Vec<Fault> {
    if !path.starts_with("loom-tests/") {
        return Vec::new();
    }
    let lines: Vec<_> = text.lines().collect();
    let functions = functions(&lines);
    let calls = |function: &Function<'_>, name: &str| function.body.iter().any(|line| names(line, name));
    let spawners: Vec<_> = functions.iter().filter(|function| calls(function, "spawn(")).collect();
    let mut faults = Vec::new();
    for model in &functions {
        if !model.body.iter().any(|line| line.trim_start().starts_with("check(")) {
            continue;
        }
        // By itself, or by another function of the file.
        let spawns = |by: &&Function<'_>| by.begin == model.begin || calls(model, &format!("{}(", by.name));
        if !spawners.iter().any(spawns) {
            faults.push((model.begin, "a model that spawns no thread".to_owned()));
        }
        if !model.above.iter().any(|line| line.contains("Mutation that fails it:")) {
            faults.push((model.begin, "a model that names no mutation that fails it".to_owned()));
        }
    }
    faults
}

/// A function that stands at the left edge of a file.
struct Function<'a> {
    /// The number of the line with its name.
    begin: usize,
    name: &'a str,
    /// Without comments.
    body: Vec<&'a str>,
    /// Its comments and attributes.
    above: &'a [&'a str],
}

fn functions<'a>(lines: &'a [&'a str]) -> Vec<Function<'a>> {
    let named = lines.iter().enumerate().filter_map(|(index, line)| {
        let name = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("fn ")?.split(['(', '<']).next()?;
        let body =
            lines[index + 1..].iter().take_while(|line| **line != "}").map(|line| without_comment(line)).collect();
        let above =
            lines[..index].iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#[")).count();
        Some(Function { begin: index + 1, name, body, above: &lines[index - above..index] })
    });
    named.collect()
}
