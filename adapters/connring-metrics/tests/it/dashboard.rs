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

/// The conditions in braces, besides that of the pool, and the labels after `by`.
fn labels(expression: &str) -> Vec<String> {
    let braces = expression.split(['{', '}']).skip(1).step_by(2).flat_map(|inside| inside.split(", "));
    let conditions = braces.filter(|condition| !condition.contains('$')).map(str::to_owned);
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    conditions.chain(groups.flat_map(|group| group.split(", ")).map(|label| format!("{label}=\""))).collect()
}

#[tokio::test(start_paused = true)]
async fn dashboard_asks_for_labels_that_the_page_has() {
    let page = page().await;
    let asked: BTreeSet<_> = dashboard().iter().flat_map(|expression| labels(expression)).collect();
    assert!(asked.contains("state=\"idle\"") && asked.contains("reason=\""), "{asked:?}");
    let missing: Vec<_> = asked.iter().filter(|label| !page.contains(*label)).collect();
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
