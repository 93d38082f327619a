//! Checks the result of the failover demo, the JSON of its last line.

use serde_json::Value;

/// The least number of answers of a run whose load worked.
const LEAST_ANSWERS: u64 = 1_000;

/// Whether the result must contain the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    Runs,
    Absent,
}

/// Checks that no acquire failed, that no answer was wrong, and that requests were answered. The baseline only needs
/// answers. Returns the last line.
///
/// # Errors
///
/// Returns an error if one of these checks fails, or if the last line is not the expected JSON.
pub(crate) fn judge(output: &str, baseline: Baseline) -> Result<&str, String> {
    let line = output.lines().last().unwrap_or_default();
    let result: Value =
        serde_json::from_str(line).map_err(|error| format!("the last line is not JSON: {error}: {line}"))?;
    if count(&result, "failed")? > 0 {
        return Err(format!("acquires failed: {line}"));
    }
    if count(&result, "wrong_answers")? > 0 {
        return Err(format!("answers were wrong: {line}"));
    }
    if count(&result, "answered")? < LEAST_ANSWERS {
        return Err(format!("fewer than {LEAST_ANSWERS} requests were answered: {line}"));
    }
    if baseline == Baseline::Runs && count(&result["baseline"], "answered")? == 0 {
        return Err(format!("the baseline answered no request: {line}"));
    }
    Ok(line)
}

fn count(result: &Value, key: &str) -> Result<u64, String> {
    result[key].as_u64().ok_or_else(|| format!("no count {key:?} in {result}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Checks a good result after `change` has modified it.
    fn judge_changed(change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let mut result = json!({
            "answered": 240_000, "failed": 0, "wrong_answers": 0,
            "baseline": { "answered": 220_000, "failed": 12_000, "wrong_answers": 3 },
        });
        change(&mut result);
        judge(&format!("earlier\n{result}\n"), Baseline::Runs).map(|line| assert_eq!(line, result.to_string()))
    }

    #[test]
    fn accepts_good_result() {
        judge_changed(|_| {}).unwrap();
        let alone = r#"{"answered":1000,"baseline":null,"failed":0,"wrong_answers":0}"#;
        judge(alone, Baseline::Absent).unwrap();
    }

    #[test]
    fn rejects_bad_results() {
        let refused = |change: fn(&mut Value), reason: &str| {
            let error = judge_changed(change).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        };
        refused(|result| result["failed"] = 1.into(), "acquires failed");
        refused(|result| result["failed"] = (-1).into(), "no count \"failed\"");
        refused(|result| result["failed"] = "0".into(), "no count \"failed\"");
        refused(|result| result["wrong_answers"] = 1.into(), "answers were wrong");
        refused(|result| result["answered"] = 999.into(), "fewer than 1000 requests were answered");
        refused(|result| result["baseline"]["answered"] = 0.into(), "the baseline answered no request");
        refused(|result| result["baseline"] = Value::Null, "no count \"answered\"");
        for key in ["failed", "wrong_answers", "answered"] {
            let error = judge_changed(|result| drop(result.as_object_mut().unwrap().remove(key))).unwrap_err();
            assert!(error.starts_with(&format!("no count {key:?}")), "{error}");
        }
    }

    #[test]
    fn rejects_output_without_json_in_last_line() {
        let good = r#"{"answered":1000,"failed":0,"wrong_answers":0}"#;
        for output in [String::new(), format!("{good}\nPanic"), format!("{good}x"), good[1..].to_owned()] {
            let error = judge(&output, Baseline::Absent).unwrap_err();
            assert!(error.starts_with("the last line is not JSON"), "{error}");
        }
    }
}
