//! Extracts the test command from README.md, so that README and CI cannot diverge.

/// Punctuation allowed in a command. Other characters could have a meaning to a shell.
const PLAIN: &str = "-_./:=,@";

/// Returns the one command in the code blocks under the heading "Test".
///
/// # Errors
///
/// Returns an error if there is not exactly one line, or if it is not a plain cargo command.
pub(crate) fn test_command(readme: &str) -> Result<&str, String> {
    let mut in_section = false;
    let mut in_block = false;
    let mut lines = Vec::new();
    for line in readme.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            lines.extend(in_section.then_some(line.trim()).filter(|line| !line.is_empty()));
        } else if line.starts_with("## ") {
            in_section = line == "## Test";
        }
    }
    let [command] = lines[..] else {
        return Err(format!("README.md has {} commands under the heading \"Test\", not 1", lines.len()));
    };
    let is_plain = command.chars().all(|c| c == ' ' || c.is_ascii_alphanumeric() || PLAIN.contains(c));
    if command.starts_with("cargo ") && is_plain {
        Ok(command)
    } else {
        Err(format!("the test command of README.md is not a plain cargo command: {command}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme(block: &str) -> String {
        let before = "# name\n\n```sh\n## Test\ncargo run\n```\n\n## Test\n\nSo:\n\n";
        format!("{before}```sh\n{block}\n```\n\n## More\n\n```sh\nls\n```\n")
    }

    #[test]
    fn finds_command_under_heading() {
        assert_eq!(test_command(&readme("cargo test --locked")), Ok("cargo test --locked"));
        assert_eq!(test_command(&readme("  cargo test\n")), Ok("cargo test"));
    }

    #[test]
    fn rejects_anything_but_one_plain_cargo_command() {
        for block in [
            "",
            "cargo build\ncargo test",
            "make test",
            "cargo-test",
            "cargo test && true",
            "cargo test; true",
            "cargo test | tee log",
            "cargo test -- $(ls)",
            "RUSTFLAGS=-Awarnings cargo test",
            "cargo test \\",
            "cargo test 'a b'",
        ] {
            assert!(test_command(&readme(block)).is_err(), "{block}");
        }
        assert!(test_command("# name\n\n```sh\ncargo test\n```\n").is_err());
    }
}
