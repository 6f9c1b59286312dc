//! External programs that some tests need, and what a test does if they are missing.

use std::path::PathBuf;

use host::envoy_binary::ToolCache;

use super::show;

/// Set by every CI service, and by `.ci/run`.
const CI: &str = "CI";

/// The first of these programs that is on the `PATH`. See [`or_untested`] for where none is.
pub fn program(names: &[&str], untested: &str) -> anyhow::Result<Option<PathBuf>> {
    let tools = ToolCache::from_environment();
    let found = names.iter().find_map(|name| tools.on_path(name));
    let missing = || anyhow::anyhow!("there is no `{}` on the PATH", names.join("`, no `"));
    or_untested(found.ok_or_else(missing), untested)
}

/// What a test needs; `None`, after saying aloud what was not tested and why, where it is not to be had. In CI that is an
/// error: what is left out there in silence is tested nowhere.
pub fn or_untested<T>(needed: anyhow::Result<T>, untested: &str) -> anyhow::Result<Option<T>> {
    let is_ci = std::env::var(CI).is_ok_and(|value| is_set(&value));
    settle(needed, untested, is_ci, show)
}

/// Set for large volumes, which take minutes.
const SOAK: &str = "FERRY_TEST_SOAK";

/// Returns `large` in a soak, else `small`.
pub fn soak(large: u64, small: u64) -> u64 {
    match std::env::var(SOAK).is_ok_and(|value| is_set(&value)) {
        true => large,
        false => small,
    }
}

fn is_set(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

fn settle<T>(
    needed: anyhow::Result<T>,
    untested: &str,
    is_ci: bool,
    say: impl Fn(&str),
) -> anyhow::Result<Option<T>> {
    match needed {
        Ok(needed) => Ok(Some(needed)),
        Err(problem) if is_ci => Err(problem.context(format!(
            "`{CI}` is set, so no test is skipped, but this cannot be tested: {untested}"
        ))),
        Err(problem) => {
            say(&format!("NOT TESTED: {untested}: {problem:#}"));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn missing_program_fails_the_test_in_ci() {
        let said = RefCell::new(vec![]);
        let say = |text: &str| said.borrow_mut().push(text.to_owned());
        let missing = || Err::<(), _>(anyhow::anyhow!("there is no `curl`"));
        assert_eq!(settle(Ok(1), "it", true, say).unwrap(), Some(1));
        let error = settle(missing(), "the README's lines", true, say).unwrap_err();
        let error = format!("{error:#}");
        for part in ["`CI`", "the README's lines", "there is no `curl`"] {
            assert!(error.contains(part), "`{part}` must be in: {error}");
        }
        assert!(said.borrow().is_empty());
        assert_eq!(
            settle(missing(), "the README's lines", false, say).unwrap(),
            None
        );
        assert_eq!(
            *said.borrow(),
            ["NOT TESTED: the README's lines: there is no `curl`"]
        );
    }

    #[test]
    fn a_variable_that_says_no_is_not_ci() {
        assert!(is_set("true") && is_set("1"));
        assert!(!is_set("") && !is_set("false") && !is_set("0"));
    }

    #[test]
    fn a_program_is_found_by_any_of_its_names() {
        let found = program(&["no-such-program", "sh"], "nothing").unwrap();
        assert!(found.is_some_and(|path| path.ends_with("sh")));
    }
}
