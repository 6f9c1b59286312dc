//! SECURITY.md says what the tests do: its table is made of the tables of attacks, and each claim names a test that is there.

use std::{fs, path::Path};

use crate::{
    attackers::{attack::rows, floods, peers, plaintext, strangers},
    thief,
};

const PAGE: &str = "SECURITY.md";
const BEGIN: &str = "| attack | refused by | seen in | test |\n| --- | --- | --- | --- |\n";

/// The attacks of all groups, in the order of the page.
fn table() -> String {
    let groups = [
        rows(strangers::TEST, strangers::ATTACKS),
        rows(thief::TEST, thief::ATTACKS),
        rows(plaintext::TEST, plaintext::ATTACKS),
        rows(floods::TEST, floods::ATTACKS),
        rows(peers::TEST, peers::ATTACKS),
    ];
    groups.concat().join("\n") + "\n"
}

/// `FERRY_UPDATE=1` writes the table instead of comparing it.
#[test]
fn the_table_of_the_page_is_that_of_the_tests() {
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let is_row = |line: &&str| line.starts_with('|');
    let written: String = rest.split_inclusive('\n').take_while(is_row).collect();
    let after = rest.strip_prefix(&written).unwrap();
    let table = table();
    if std::env::var_os("FERRY_UPDATE").is_some() {
        fs::write(root().join(PAGE), [before, BEGIN, &table, after].concat()).unwrap();
        return;
    }
    assert_eq!(
        written, table,
        "{PAGE} is out of date: run `FERRY_UPDATE=1 cargo test -p e2e --test it security`"
    );
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = read(PAGE);
    let names: Vec<_> = tests_in(&page).collect();
    assert!(names.len() > 20, "only {} tests were found", names.len());
    for (file, test) in names {
        let text = fs::read_to_string(root().join(file))
            .unwrap_or_else(|error| panic!("{PAGE} names `{file}`: {error}"));
        assert!(
            text.contains(&format!("fn {test}(")),
            "{PAGE} names `{test}`, which is not in `{file}`"
        );
    }
}

#[test]
fn no_claim_is_made_without_a_test() {
    let page = read(PAGE);
    let (_, claims) = page.split_once("\n## ").unwrap();
    let mut count = 0;
    // A claim is an item of a list, with the lines that belong to it.
    for item in claims.split("\n- ").skip(1) {
        let item = item.split("\n\n").next().unwrap();
        assert!(
            tests_in(item).next().is_some() || item.contains("(table)"),
            "{PAGE} claims without a test: {item}"
        );
        count += 1;
    }
    assert!(count > 10, "only {count} claims were found");
}

/// File and function of everything written as `file.rs::function`.
fn tests_in(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let ticks = text.split('`').skip(1).step_by(2);
    ticks.filter_map(|tick| {
        tick.split_once("::")
            .filter(|(file, _)| file.ends_with(".rs"))
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
