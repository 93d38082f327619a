//! Each rule fires on what it is there for, and not on its like.

use super::*;

/// The lines on which a rule fires.
fn fires(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    rule(path, text).into_iter().map(|(line, _)| line).collect()
}

#[test]
fn an_import_from_above_is_found() {
    let rule = imports_run_one_way;
    let upward = "use crate::sync::Arc;\nuse crate::pool::Pool;\n// use crate::builder::Builder;\n";
    assert_eq!(fires(rule, "src/server/state.rs", upward), [2]);
    assert_eq!(fires(rule, "src/builder.rs", upward), []);
    assert_eq!(fires(rule, "src/clock.rs", "fn f(_: crate::connector::Connector) {}"), [1], "not only in `use`");
    assert_eq!(fires(rule, "src/connector/tcp/tests.rs", "use crate::Clock;"), [1], "from above through the root");
    assert_eq!(fires(rule, "src/clock.rs", "use super::pool::Pool;"), [1], "from above through its parent");
    assert_eq!(fires(rule, "src/raw/mod.rs", "use super::pool::Pool;"), [1]);
    assert_eq!(fires(rule, "src/raw/idle.rs", "use super::slot::Slot;\nuse super::super::pool::Pool;"), [2]);
    assert_eq!(fires(rule, "src/clock.rs", "use crate::{pool::Pool};"), [1], "in a group");
    assert_eq!(fires(rule, "src/novelty.rs", ""), [1], "a module without a layer");
    assert_eq!(fires(rule, "tests/it/main.rs", "use crate::pool::Pool;"), []);
    let wait = "use crate::core::wait;\nuse crate::core::{plan, wait};\nuse crate::core::plan;\n";
    assert_eq!(fires(rule, "src/core/settle.rs", wait), [1, 2], "files of `core` are units");
    assert_eq!(fires(rule, "src/core/release.rs", "use crate::core::membership::reset;"), [1], "one beside it");
}

#[test]
fn a_call_of_a_method_from_above_is_found() {
    let above = "impl Pool {\n    pub fn drain(&self) {}\n    fn len(&self) -> usize {}\n}\n";
    let here = "fn f(pool: P) {\n    pool.drain();\n    pool.len();\n    // pool.drain()\n    pool.drain;\n}\n";
    let files = [("src/core/wait.rs", above), ("src/core/settle.rs", here)];
    let methods = methods_of_units(files.into_iter());
    assert_eq!(methods.keys().collect::<Vec<_>>(), ["drain"], "the standard library has `len`, too");
    let fires = |path| calls_run_one_way(&methods, path, here).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(fires("src/core/settle.rs"), [2]);
    assert_eq!((fires("src/pool.rs"), fires("src/core/wait.rs"), fires("tests/it/x.rs")), (vec![], vec![], vec![]));
    let twice = methods_of_units([("src/core/wait.rs", above), ("src/pool.rs", above)].into_iter());
    assert!(twice.is_empty(), "two units define it");
}

#[test]
fn a_kernel_that_does_not_stand_alone_is_found() {
    let rule = the_kernel_stands_alone;
    let good = "use core::task::Waker;\nuse super::health::ticks;\nuse crate::sync::{AtomicU64, Ordering};\n\
                pub(crate) use self::line::Line;\n/// See std::sync.\n\n\
                #[cfg(test)]\nmod tests {\n    use std::thread;\n}\n";
    assert_eq!(fires(rule, "src/raw/line.rs", good), []);
    for bad in [
        "use std::time::Duration;",
        "fn f() { std::thread::yield_now() }",
        "fn f() { core::sync::atomic::fence(o) }",
        "fn f() { tokio::task::yield_now() }",
        "use crate::clock::Clock;",
        "use rand::random;",
    ] {
        assert!(!fires(rule, "src/raw/line.rs", bad).is_empty(), "{bad}");
        assert_eq!(fires(rule, "src/pool.rs", bad), []);
        assert_eq!(fires(rule, "src/raw/line/tests.rs", bad), [], "unit tests");
    }
}

#[test]
fn a_primitive_that_is_named_elsewhere_is_found() {
    let rule = one_file_names_the_primitives;
    for bad in [
        "use std::sync::Arc;",
        "use std::sync::atomic::AtomicBool;",
        "use crossbeam_queue::ArrayQueue;",
        "    list: arc_swap::ArcSwap<List>,",
        "use std::{fmt, sync::Arc};",
        "    let list = self.list.lock().unwrap();",
    ] {
        assert_eq!(fires(rule, "src/pool.rs", bad), [1], "{bad}");
        assert_eq!(fires(rule, "src/sync.rs", bad), []);
        assert_eq!(fires(rule, "src/pool/tests.rs", bad), [], "unit tests");
    }
    assert_eq!(fires(rule, "src/pool.rs", "use crate::sync::Arc;\nuse tokio::sync::Notify; // not std::sync"), []);
}

#[test]
fn an_ordering_without_a_reason_is_found() {
    let rule = orderings_have_reasons;
    let file = |comment: &str| format!("fn f() {{\n    {comment}\n    a.load(Ordering::Acquire);\n}}\n");
    assert_eq!(fires(rule, "src/raw/idle.rs", &file("// Acquire: pairs with the store of `close`.")), []);
    assert_eq!(fires(rule, "src/raw/idle.rs", &file("")), [3]);
    assert_eq!(fires(rule, "src/raw/idle.rs", &file("// Relaxed: a hint for the caller.")), [3], "another ordering's");
    assert_eq!(fires(rule, "src/raw/idle.rs", &file("// Acquire.")), [3], "no reason");
    assert_eq!(fires(rule, "src/raw/idle.rs", &file("/// Acquire: pairs with the store of `close`.")), [3]);
    assert_eq!(fires(rule, "src/pool.rs", &file("")), []);
    assert_eq!(fires(rule, "src/raw/line/tests.rs", &file("")), [], "unit tests");
    let far = "// Acquire: pairs with the store.\n\n\n\n\na.load(Ordering::Acquire);\n";
    assert_eq!(fires(rule, "src/raw/idle.rs", far), [6]);
    assert_eq!(fires(rule, "src/raw/idle.rs", &far[..far.len()].replacen("\n\n", "\n", 1)), []);
    let two = "// Acquire: pairs with the store.\na.compare_exchange(b, c, Ordering::Acquire, Ordering::Relaxed);\n";
    assert_eq!(fires(rule, "src/raw/idle.rs", two), [2], "each of the two");
}

#[test]
fn a_long_file_or_line_is_found() {
    assert_eq!(fires(files_are_short, "src/pool.rs", &"\n".repeat(MAX_LINES)), []);
    assert_eq!(fires(files_are_short, "tests/it/x.rs", &"\n".repeat(MAX_LINES + 1)), [MAX_LINES + 1]);
    assert_eq!(fires(files_are_short, "src/pool.rs", &"é".repeat(MAX_WIDTH)), []);
    assert_eq!(fires(files_are_short, "src/pool.rs", &format!("\n{}", "x".repeat(MAX_WIDTH + 1))), [2]);
}

#[test]
fn a_select_by_lot_is_found() {
    let rule = selects_are_biased;
    assert_eq!(fires(rule, "src/dial.rs", "tokio::select! {\n    () = a => {}\n}\n"), [1]);
    assert_eq!(fires(rule, "src/dial.rs", "select! {\n    // biased;\n    () = a => {}\n}\n"), [1]);
    assert_eq!(fires(rule, "src/dial.rs", "tokio::select! {\n    biased;\n    () = a => {}\n}\n"), []);
    assert_eq!(fires(rule, "src/dial.rs", "tokio::select! { biased; () = a => {} }\n"), []);
    assert_eq!(fires(rule, "tests/it/x.rs", "tokio::select! {\n    () = a => {}\n}\n"), []);
}

#[test]
fn what_is_unsafe_or_left_to_do_is_found() {
    let rule = nothing_is_unsafe_or_left_to_do;
    assert_eq!(fires(rule, "src/raw/idle.rs", "// No unsafe.\nunsafe { f() }\nunsafe impl Send for A {}\n"), [2, 3]);
    for bad in ["// TODO: more", "// FIXME", "    dbg!(x);", "    todo!()"] {
        assert_eq!(fires(rule, "tests/it/x.rs", bad), [1], "{bad}");
    }
    assert_eq!(fires(rule, "src/lib.rs", "#![forbid(unsafe_code)]"), [], "a longer name");
    assert_eq!(fires(rule, "src/raw/slot.rs", "unsafe { f() }"), [], "the one file");
}

#[test]
fn a_model_that_checks_nothing_is_found() {
    let rule = models_spawn_and_say_what_fails_them;
    let good = "/// Mutation that fails it: `take` stores.\n\
                pub fn m() {\n    check(None, || {\n        spawn(f);\n    });\n}\n";
    assert_eq!(fires(rule, "loom-tests/src/idle.rs", good), []);
    assert_eq!(fires(rule, "loom-tests/src/idle.rs", &good.replace("spawn(f)", "// spawn(f)")), [2]);
    assert_eq!(fires(rule, "loom-tests/src/idle.rs", &good.replace("Mutation", "Property")), [2]);
    assert_eq!(fires(rule, "loom-tests/src/idle.rs", &format!("fn helper() {{\n}}\n{good}")), []);
    let by_another = format!("fn f() {{\n    spawn(g);\n}}\n{}", good.replace("spawn(f)", "f()"));
    assert_eq!(fires(rule, "loom-tests/src/idle.rs", &by_another), []);
    assert_eq!(fires(rule, "tests/it/x.rs", &good.replace("spawn", "")), []);
}
