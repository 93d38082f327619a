use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use connring_metrics::facade::{Export, observer};
use connring_metrics::metrics::set_default_local_recorder;
use connring_real_servers::find;
use serde_json::{Value, json};

use crate::page::{exporter, series};
use crate::scenario::{POOL, scenario};

/// All texts under the keys `expr` and `query`, wherever they are.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "expr" || key == "query" => found.push(text.clone()),
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

fn dashboard() -> Vec<String> {
    let dashboard = serde_json::from_str(include_str!("../../grafana.json")).expect("it is JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    found
}

/// The words of an expression that begin as the names of our metrics do.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    expression.split(move |c| !is_part(c)).filter(|word| word.starts_with("connring_"))
}

/// The page of a pool in which everything has happened.
async fn page() -> String {
    let recorder = exporter().build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let scenario = scenario(observer(POOL)).await;
    let _export = Export::new(&scenario.pool);
    recorder.handle().render()
}

#[tokio::test(start_paused = true)]
async fn dashboard_names_what_the_page_has() {
    let printed: BTreeSet<_> = series(&page().await).into_keys().map(|(name, _)| name).collect();
    let expressions = dashboard();
    let asked: BTreeSet<_> = expressions.iter().flat_map(|expression| names(expression)).collect();
    assert!(asked.len() > 15, "{asked:?}");
    let missing: Vec<_> = asked.iter().filter(|name| !printed.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What is in the parentheses after `rest` opens.
fn in_parentheses(rest: &str) -> &str {
    let mut depth = 0;
    let end = rest.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// Each metric of an expression with what it must have a series with: the conditions in its braces, besides that of the
/// pool, and the labels by which it is grouped.
fn labels(expression: &str) -> Vec<(String, String)> {
    let mut asked = Vec::new();
    for name in names(expression) {
        for rest in expression.split(name).skip(1) {
            let Some(braces) = rest.strip_prefix('{') else { continue };
            let conditions = braces.split('}').next().unwrap_or_default().split(", ");
            asked.extend(conditions.filter(|text| !text.contains('$')).map(|text| (name.to_owned(), text.to_owned())));
        }
    }
    for rest in expression.split("by (").skip(1) {
        let (group, grouped) = rest.split_once(") ").expect("what is grouped follows");
        let label = |label| names(in_parentheses(grouped)).map(move |name| (name.to_owned(), format!("{label}=\"")));
        asked.extend(group.split(", ").flat_map(label));
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn dashboard_asks_for_labels_that_its_metrics_have() {
    let page = page().await;
    let asked: BTreeSet<_> = dashboard().iter().flat_map(|expression| labels(expression)).collect();
    let has = |name: &str, label: &str| asked.contains(&(name.to_owned(), label.to_owned()));
    assert!(has("connring_connections", "state=\"idle\"") && has("connring_closes_total", "reason=\""), "{asked:?}");
    let is_there = |(name, label): &&(String, String)| {
        page.lines()
            .any(|line| line.strip_prefix(&**name).is_some_and(|rest| rest.starts_with('{') && rest.contains(&**label)))
    };
    let missing: Vec<_> = asked.iter().filter(|asked| !is_there(asked)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Runs a check of Prometheus. Nothing where it is not installed.
fn promtool(arguments: &[&str], input: &str) {
    let Some(promtool) = find("promtool") else { return };
    let mut command = Command::new(promtool);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[tokio::test(start_paused = true)]
async fn page_keeps_the_rules_of_prometheus() {
    promtool(&["check", "metrics"], &page().await);
}

#[test]
fn expressions_of_the_dashboard_are_valid() {
    let rule =
        |expression: String| json!({ "record": "checked", "expr": expression.replace("$__rate_interval", "1m") });
    let expressions =
        dashboard().into_iter().filter(|text| text.contains("connring_") && !text.starts_with("label_values"));
    let rules: Vec<_> = expressions.map(rule).collect();
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    promtool(&["check", "rules", "--lint=none", "/dev/stdin"], &groups.to_string());
}
