//! `docs/reference.md` lists the commands of `--help`.

use std::{fmt::Write as _, fs, path::Path};

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");

/// Start of the generated part, which extends to the end of the page.
const START: &str =
    "<!-- Written by `FERRY_UPDATE=1 cargo test -p xtask --bin xtask reference`. -->\n";

#[test]
fn reference_page_matches_help() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (written_by_hand, commands) = page.split_once(START).expect("the page has the start");
    let mut expected = String::new();
    let mut root = Cli::command();
    root.build();
    for command in root.get_subcommands() {
        write_command(&mut expected, command);
    }
    if std::env::var_os("FERRY_UPDATE").is_some() {
        fs::write(
            Path::new(PAGE),
            [written_by_hand, START, &expected].concat(),
        )
        .unwrap();
        return;
    }
    assert!(
        commands == expected,
        "docs/reference.md is stale; run `FERRY_UPDATE=1 cargo test -p xtask --bin xtask reference`"
    );
}

/// Writes a command's section, or those of its subcommands.
fn write_command(page: &mut String, command: &Command) {
    let about = command.get_long_about().or(command.get_about()).unwrap();
    let about = about
        .to_string()
        .trim_end_matches('.')
        .replace("\n\n", ".\n\n");
    let name = command.get_bin_name().unwrap();
    writeln!(page, "\n### {name}\n\n{about}.").unwrap();
    if command.has_subcommands() {
        for subcommand in command.get_subcommands() {
            write_command(page, subcommand);
        }
        return;
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap();
    writeln!(page, "\n```text\n{usage}\n```").unwrap();
    let arguments = command
        .get_arguments()
        .filter(|argument| argument.get_id() != "help");
    let (positional, options): (Vec<_>, Vec<_>) =
        arguments.partition(|argument| argument.is_positional());
    let rows: Vec<_> = positional.into_iter().chain(options).map(row).collect();
    if !rows.is_empty() {
        writeln!(
            page,
            "\n| argument | meaning |\n| --- | --- |\n{}",
            rows.join("\n")
        )
        .unwrap();
    }
}

/// Formats an argument as a row, such as `-f, --follow` with its help and default.
fn row(argument: &Arg) -> String {
    let short = argument.get_short().map(|letter| format!("-{letter}, "));
    let mut help = argument.get_help().unwrap().to_string();
    if argument.get_action().takes_values() {
        for value in argument.get_default_values() {
            write!(help, "; {} by default", value.to_string_lossy()).unwrap();
        }
    }
    let short = short.unwrap_or_default();
    format!("| `{short}{argument}` | {help} |").replace("DIR|FILE", "DIR\\|FILE")
}
