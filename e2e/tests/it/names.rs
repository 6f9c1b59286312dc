//! Names of tests.

use crate::tidy::sources;

/// The module says the rest; services keep to it by review.
#[test]
fn test_names_are_short() {
    const LONGEST: usize = 45;
    let mut count = 0;
    for folder in ["e2e", "xtask"] {
        for (path, text) in sources(folder) {
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                is_test |= ["#[test]", "#[tokio::test", "#[rstest]"]
                    .iter()
                    .any(|attribute| line.starts_with(attribute));
                let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) else {
                    continue;
                };
                let name = rest.split(['(', '<']).next().unwrap_or_default();
                let place = path.display();
                assert!(
                    name.len() <= LONGEST,
                    "{place}: `{name}` has more than {LONGEST} characters"
                );
                count += 1;
                is_test = false;
            }
        }
    }
    assert!(count > 500, "only {count} tests were found");
}
