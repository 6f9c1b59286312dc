//! Files that nobody writes by mistake.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[test]
fn exploding_anchors_are_refused() {
    let mut bomb = String::from("a: &a [x]\n");
    for letter in 'b'..='z' {
        let before = char::from(letter as u8 - 1);
        let aliases = format!("*{before},").repeat(9);
        bomb += &format!("{letter}: &{letter} [{aliases}]\n");
    }
    let problems = problems(&bomb);
    let refused = |line| {
        format!(
            "{line}: YAML anchors and aliases (`&`, `*`) are not supported; write the value out"
        )
    };
    for line in 1..=26 {
        assert!(
            problems.contains(&refused(line)),
            "line {line} must be refused: {problems:#?}"
        );
    }
}

#[rstest]
#[case::brackets("[".repeat(1 << 20))]
#[case::braces("{a: ".repeat(1 << 18))]
#[case::dashes("- ".repeat(1 << 19))]
#[case::one_key("a".repeat(1 << 20))]
#[case::keys((0..20_000).map(|key| format!("key-{key}: 1\n")).collect())]
#[case::names(format!("{GOOD}{}", (0..20_000).map(|to| format!("  - {{from: gat{to}, to: rely{to}}}\n")).collect::<String>()))]
#[case::knots(format!("connections:\n{}pods:\n{}", (0..9_999).map(|pod| format!("  - {{from: p{pod}, to: p{}}}\n", pod ^ 1)).collect::<String>(), (0..10_000).map(|pod| format!("  - name: p{pod}\n")).collect::<String>()))]
#[case::quotes("\"".repeat(1 << 20))]
#[case::anchors("&a ".repeat(1 << 18))]
#[case::comments("#\n".repeat(1 << 19))]
fn a_large_odd_file_is_refused_in_few_lines(#[case] text: String) {
    let error = parse(&text).unwrap_err().to_string();
    assert!(
        error.lines().count() <= 52 && error.len() < 50_000,
        "{error}"
    );
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_and_never_panics(text in any::<String>()) {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn arbitrary_yaml_is_refused_and_never_panics(text in "([-?:,\\[\\]{}&*!|>'\"%@`#~a-c0-2 \t\r\n]|- |: |name|pods|connections){0,80}") {
        let problems = parse(&text).unwrap_err();
        prop_assert!(problems.iter().next().is_some(), "refused without a problem");
    }

    /// Damage anywhere in a good file: no panic, and what is refused has a reason.
    #[test]
    fn damaged_blueprint_is_refused_or_valid(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "([-:\\[\\]{}&*!'\"#~a-c0-2 \t\n]|- |: |gate|relay|end){0,6}"), 1..4)
    ) {
        let mut text = GOOD.to_owned();
        for (at, length, replacement) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &replacement);
        }
        match parse(&text) {
            Ok(blueprint) => {
                for pod in &blueprint.pods {
                    prop_assert!(blueprint.workload(pod).is_ok());
                    prop_assert!(PUBLIC_PORTS.contains(&pod.port));
                }
            }
            Err(problems) => {
                let lines = text.lines().count() + 1;
                prop_assert!(problems.iter().next().is_some(), "refused without a problem:\n{text}");
                prop_assert!(problems.iter().all(|problem| problem.line.is_some_and(|line| (1..=lines).contains(&line))), "{problems}");
            }
        }
    }
}
