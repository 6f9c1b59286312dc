//! A process that is killed at any moment.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{append, body, open, small};

const DIR: &str = "JOURNAL_OF_A_TEST";
/// Processes that are killed.
const LIVES: usize = 25;

#[test]
#[allow(clippy::print_stdout)]
fn printed_records_survive_sigkill() {
    let seed = env::var("FERRY_TEST_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("FERRY_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = TempDir::new().unwrap();
    let mut printed = 0;
    for life in 0..LIVES {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "kill::appends_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let durable = |line: &String| line.strip_prefix("durable ")?.parse::<u64>().ok();
        let batches = random.usize(1..60);
        let mut seen = 0;
        while seen < batches {
            let line = lines.next().expect("it must go on").unwrap();
            if let Some(last) = durable(&line) {
                (printed, seen) = (last, seen + 1);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it printed before the signal arrived counts as well.
        printed = lines
            .filter_map(|line| durable(&line.unwrap()))
            .last()
            .unwrap_or(printed);
        let journal = open(dir.path(), &small());
        assert!(
            journal.next() > printed,
            "life {life}: {printed} was printed"
        );
        check(dir.path(), &journal);
    }
}

#[track_caller]
fn check(dir: &Path, journal: &::journal::Journal) {
    let mut expected = journal.oldest();
    for (index, read) in super::all(journal) {
        assert_eq!(index, expected, "{}", dir.display());
        assert_eq!(read, body(index, (index % 500) as usize));
        expected += 1;
    }
    assert_eq!(expected, journal.next());
}

/// The process that [`printed_records_survive_sigkill`] starts.
#[test]
#[ignore = "runs in a process of its own"]
fn appends_until_it_is_killed() {
    let Some(dir) = env::var_os(DIR) else {
        return;
    };
    let mut journal = open(Path::new(&dir), &small());
    let mut random = fastrand::Rng::new();
    let mut out = std::io::stdout();
    loop {
        let first = journal.next();
        let batch = first..first + random.u64(1..8);
        let bodies: Vec<_> = batch
            .map(|index| body(index, (index % 500) as usize))
            .collect();
        let range = append(&mut journal, &bodies);
        writeln!(out, "durable {}", range.end - 1).unwrap();
        out.flush().unwrap();
        journal.trim(first.saturating_sub(100)).unwrap();
    }
}
