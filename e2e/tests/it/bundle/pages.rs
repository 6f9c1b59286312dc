//! Follows the sections of `docs/operations.md` for each cloud, from a bundle to its removal.

use std::{fs, path::Path, process::Command};

use host::binaries::is_of_the_outer_cargo;
use rstest::rstest;

use super::fake::Operator;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the shell blocks of a section.
fn blocks(title: &str) -> Vec<String> {
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let heading = format!("\n### {title}\n");
    let page = operations.split_once(&heading).unwrap().1;
    let page = page.split("\n### ").next().unwrap();
    let page = page.split("\n## ").next().unwrap();
    let blocks = page.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split_once("```").unwrap().0.to_owned())
        .collect()
}

/// A command of Ferry, whole.
fn commands(blocks: &[String], name: &str) -> Vec<String> {
    let start = format!("cargo xtask {name} ");
    let joined = blocks.concat().replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.starts_with(&start));
    lines.map(str::to_owned).collect()
}

fn run_here(line: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-euc", line]).current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_the_outer_cargo) {
            command.env_remove(name);
        }
    }
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "`{line}`: {}\n{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

#[rstest]
#[case::gke(
    "Google Kubernetes Engine",
    "gke",
    "203.0.113.10 ",
    "gcloud compute addresses"
)]
#[case::eks("Amazon EKS", "eks", " ferry-1.elb.eu-west-1.amazonaws.com", "aws ec2")]
#[case::aks(
    "Azure Kubernetes Service",
    "aks",
    "203.0.113.30 ",
    "az network public-ip"
)]
#[case::generic("Any other cluster", "generic", "192.0.2.10 ", "kubectl")]
fn a_page_leads_from_reserving_to_releasing(
    #[case] title: &str,
    #[case] target: &str,
    #[case] address: &str,
    #[case] provider: &str,
) {
    let blocks = blocks(title);
    assert!(blocks.len() > 1, "{title}: {blocks:?}");
    for block in &blocks {
        let checked = Command::new("sh").args(["-nc", block]).output().unwrap();
        assert!(checked.status.success(), "{title}:\n{block}\n{checked:?}");
    }
    for line in commands(&blocks, "addresses") {
        assert!(line.contains(target), "{line}");
        assert!(run_here(&line).contains(provider), "{line}");
    }
    let bundles = commands(&blocks, "bundle");
    assert!(
        !bundles.is_empty() && !commands(&blocks, "addresses").is_empty(),
        "{title}"
    );
    for line in bundles {
        // The folder that the page names, but elsewhere; deployed there by what comes next on the page.
        let name = line
            .split(" --out ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let mut operator = Operator::new("international-ferry", &[]);
        let out = operator.bundle.with_file_name(name);
        run_here(&line.replace(
            &format!("--out {name}"),
            &format!("--out {}", out.display()),
        ));
        operator.bundle = out;
        operator.set("address", &format!("{address}\n"));
        let all = blocks.concat();
        let scripts: Vec<&str> = all.lines().filter(|line| line.starts_with("./")).collect();
        assert_eq!(scripts.len(), 4, "{title}: {scripts:?}");
        let contexts = scripts
            .iter()
            .filter_map(|line| line.split("--cluster ").nth(1));
        let contexts: Vec<&str> = contexts.collect();
        for context in &contexts {
            operator.cluster(context);
        }
        operator.set("contexts", &(contexts.join("\n") + "\n"));
        operator.without("curl");
        assert!(all.contains(&format!("cd {name}\n")), "{title}");
        for script in scripts {
            operator.expect(script, 0, "");
        }
    }
}

#[test]
fn what_is_said_of_all_clouds_is_checked_too() {
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for section in ["gke", "eks", "aks", "generic"] {
        assert!(
            operations.contains(&format!("--target {section}")),
            "no page has {section}"
        );
    }
    assert!(operations.contains(&format!("`{}`", harness::ops::bundle::SECRETS_FILE)));
}
