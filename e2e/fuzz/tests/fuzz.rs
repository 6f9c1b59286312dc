//! Drives the fuzz targets: seeds that are checked in, changed at random, for `FERRY_FUZZ_SECONDS` each, or for a fixed small
//! number of inputs. An input that breaks a target is written to `corpus/<target>/`, and is a seed from then on.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fuzz::Target;
use serde_json::{Value, json};

const SECONDS: &str = "FERRY_FUZZ_SECONDS";
/// Inputs of each target where no time is given.
const INPUTS: u64 = 1500;
/// Longest input: what is longer takes long and shows little.
const LONGEST: usize = 64 * 1024;
/// Most inputs that are kept to be changed further.
const POOL: usize = 2000;

#[test]
fn blueprint() {
    let mut seeds = vec![];
    for entry in fs::read_dir(root().join("manifests")).unwrap() {
        seeds.extend(fs::read(entry.unwrap().path().join("blueprint.yaml")));
    }
    let words = [
        "- ",
        ": ",
        "\n",
        "  ",
        "name",
        "pods",
        "connections",
        "&a ",
        "*a",
        "|",
        "{",
        "}",
        "[",
        "'",
        "\"",
        "#",
    ];
    run("blueprint", fuzz::blueprint, seeds, &words);
}

#[test]
fn frames() {
    let golden = root().join("services/messages/tests/golden");
    let mut seeds = vec![];
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        if name.ends_with(".pb.hex") {
            seeds.push(bytes_of(&text));
        } else if !name.starts_with("signature") {
            seeds.push(text.trim().into());
        }
    }
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"type\":\"ack\"",
        "\"trail\":[",
        "\"payload\":",
        "null",
        "1e999",
        "\\u0000",
        "\u{1b}",
    ];
    run("frames", fuzz::frames, seeds, &words);
}

#[test]
fn trail() {
    let vectors: Value = serde_json::from_str(fuzz::VECTORS).unwrap();
    let stored = |(index, case): (usize, &Value)| {
        let message = json!({"id": case["id"], "blueprint": "international-ferry", "seq": 1, "payload": {}, "trail": case["trail"]});
        json!({"index": index, "stored_at": "2026-11-22T19:00:00.000000Z", "message": message})
            .to_string()
    };
    let cases = vectors["cases"].as_array().unwrap();
    let mut seeds: Vec<_> = (1..).zip(cases).map(stored).collect();
    seeds.push(seeds[..3].join("\n"));
    let seeds = seeds.into_iter().map(Into::into).collect();
    let words = [
        "\n",
        "..",
        "\"signature\":\"\"",
        "\"trail\":[]",
        ",",
        "{",
        "}",
        "\"stored\":",
        "e30",
        "9999",
    ];
    run("trail", fuzz::trail, seeds, &words);
}

#[test]
fn identity() {
    let vectors: Value = serde_json::from_str(fuzz::VECTORS).unwrap();
    let seed = |identity: &Value| {
        json!({"resources": [{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": "identity",
            "tls_certificate": {
                "certificate_chain": {"inline_string": identity["certificate_chain"]},
                "private_key": {"inline_string": identity["private_key"]},
            },
        }]})
    };
    let identities = vectors["identities"].as_array().unwrap();
    let seeds: Vec<Vec<u8>> = identities
        .iter()
        .map(|identity| seed(identity).to_string().into())
        .collect();
    for seed in &seeds {
        assert!(fuzz::identity(seed).ends_with(".ferry.internal"));
    }
    let words = [
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----",
        "\\n",
        "=",
        "{",
        "}",
    ];
    run("identity", fuzz::identity, seeds, &words);
}

#[test]
fn journal() {
    let golden = root().join("services/journal/tests/golden/00000000000000000001.log.hex");
    let whole = bytes_of(&fs::read_to_string(golden).unwrap());
    assert_eq!(fuzz::journal(&whole), "3 records of 89 bytes");
    let torn = whole[..whole.len() - 1].to_vec();
    assert_eq!(fuzz::journal(&torn), "1 records of 30 bytes");
    let words = ["\0\0\0\0\0\0\0\0", "\u{1}\0\0\0\0\0\0\0", "next"];
    run("journal", fuzz::journal, vec![whole, torn], &words);
}

#[test]
fn engine_finds_bug_behind_two_changes() {
    /// Breaks on `!` after `?`, which no seed has.
    fn fragile(input: &[u8]) -> String {
        let asked = input.contains(&b'?');
        assert!(!(asked && input.contains(&b'!')), "broken");
        format!("{asked}")
    }
    let found = search(
        fragile,
        vec![b"seed".to_vec()],
        &["?", "!"],
        Budget::Inputs(100_000),
    );
    let found = found.expect("it must be found");
    assert!(found.contains(&b'?') && found.contains(&b'!'));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A dump in hexadecimal digits, with white space anywhere.
fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter_map(|digit| char::from(digit).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

#[derive(Clone, Copy)]
enum Budget {
    Inputs(u64),
    Time(Duration),
}

#[track_caller]
fn run(name: &str, target: Target, mut seeds: Vec<Vec<u8>>, words: &[&str]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    for entry in fs::read_dir(&corpus).unwrap() {
        seeds.push(fs::read(entry.unwrap().path()).unwrap());
    }
    let budget = match std::env::var(SECONDS) {
        Ok(seconds) => Budget::Time(Duration::from_secs(seconds.parse().unwrap())),
        Err(_) => Budget::Inputs(INPUTS),
    };
    if let Some(broken) = search(target, seeds, words, budget) {
        let mut hasher = DefaultHasher::new();
        broken.hash(&mut hasher);
        let file = corpus.join(format!("found-{:016x}", hasher.finish()));
        fs::write(&file, &broken).unwrap();
        panic!(
            "the target `{name}` breaks, see above; the input is `{}`: check it in with the fix",
            file.display()
        );
    }
}

/// Tries the seeds, then changes of them; inputs that get a new answer are changed further. The input that broke the target.
fn search(target: Target, seeds: Vec<Vec<u8>>, words: &[&str], budget: Budget) -> Option<Vec<u8>> {
    assert!(!seeds.is_empty(), "there must be seeds");
    let mut answers = HashSet::new();
    let mut pool = vec![];
    for seed in seeds {
        match catch_unwind(|| target(&seed)) {
            Ok(answer) => drop(answers.insert(answer)),
            Err(_) => return Some(seed),
        }
        pool.push(seed);
    }
    let began = Instant::now();
    let mut random = Random(Instant::now().elapsed().as_nanos() as u64 ^ seed_of_this_run());
    for tried in 0.. {
        let over = match budget {
            Budget::Inputs(most) => tried >= most,
            Budget::Time(most) => began.elapsed() >= most,
        };
        if over {
            break;
        }
        let input = change(&pool, words, &mut random);
        match catch_unwind(|| target(&input)) {
            Ok(answer) => {
                if pool.len() < POOL && answers.insert(answer) {
                    pool.push(input);
                }
            }
            Err(_) => return Some(input),
        }
    }
    None
}

fn seed_of_this_run() -> u64 {
    use std::hash::BuildHasher as _;
    // Its keys are random.
    std::collections::hash_map::RandomState::new().hash_one(())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`; 0 where that is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn change(pool: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(16)).min(input.len()).max(at);
        match random.below(7) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next() as u8,
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            4 => {
                let other = &pool[random.below(pool.len())];
                let from = random.below(other.len());
                let part = other[from..(from + random.below(200)).min(other.len())].to_vec();
                input.splice(at..end, part);
            }
            5 => input.truncate(at),
            _ => {
                let word = words[random.below(words.len())].bytes();
                input.splice(at..at, word);
            }
        }
    }
    input.truncate(LONGEST);
    input
}
