//! Fuzz targets: each takes any bytes, panics where the code under it or a promise of it breaks, and gives back in a few words
//! what became of the input. `tests/fuzz.rs` drives them on stable Rust and keeps inputs whose words are new; a
//! coverage-guided engine can call the same functions.

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    sync::{Arc, LazyLock},
};

use blueprint::Blueprint;
use harness::trail::{Evidence, audit};
use journal::{Disk, Journal, Options};
use messages::{
    Ack, Hop, Message,
    json::{self, Frame},
    proto::{self, v1},
    signature::Signer,
};
use prost::Message as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;

/// What a target makes of an input.
pub type Target = fn(&[u8]) -> String;

/// The test vectors of signed trails, from which the target `trail` has its roots.
pub const VECTORS: &str =
    include_str!("../../../services/messages/tests/golden/signature-vectors.json");

/// A blueprint is read, or refused with problems that stand on lines of the file.
pub fn blueprint(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    match Blueprint::parse(text, Path::new("blueprint.yaml")) {
        Ok(blueprint) => {
            for pod in &blueprint.pods {
                assert!(blueprint.workload(pod).is_ok(), "{pod:?} must have a name");
            }
            format!("{} pods", blueprint.pods.len())
        }
        Err(problems) => {
            // To YAML a lone carriage return ends a line (YAML 1.2.2, section 5.4).
            let lines = text.split(['\n', '\r']).count() + 1;
            let mut words = String::new();
            for problem in problems.iter() {
                let in_file = problem.line.is_some_and(|line| (1..=lines).contains(&line));
                assert!(in_file, "{problems} must stand on lines of the file");
                words += &shape(&problem.text);
            }
            assert!(!words.is_empty(), "refused without a problem");
            words
        }
    }
}

/// A frame in either encoding is refused, or can be judged, written, and read again as the same.
pub fn frames(input: &[u8]) -> String {
    let json = match json::decode_slice(input) {
        Ok(frame) => again(&frame),
        Err(error) => shape(&error.to_string()),
    };
    let message = proto::decode::<v1::Message>(input);
    assert_eq!(
        message.is_ok(),
        v1::Message::decode(input).is_ok(),
        "what prost takes, ours takes"
    );
    let message = message.map(|read| match Message::try_from(read) {
        Ok(message) => again(&Frame::Message(message)),
        Err(error) => shape(&error.to_string()),
    });
    let ack = proto::decode::<v1::Ack>(input).map(|read| match Ack::try_from(read) {
        Ok(ack) => again(&Frame::Ack(ack)),
        Err(error) => shape(&error.to_string()),
    });
    let or_error = |read: Result<String, prost::DecodeError>| {
        read.unwrap_or_else(|error| shape(&error.to_string()))
    };
    format!("{json}|{}|{}", or_error(message), or_error(ack))
}

fn again(frame: &Frame) -> String {
    let (text, verdict) = match frame {
        Frame::Message(message) => (json::encode_message(message), message.validate()),
        Frame::Ack(ack) => (json::encode_ack(ack), ack.validate()),
    };
    let read = json::decode(&text);
    assert!(
        read.as_ref().is_ok_and(|read| read == frame),
        "{frame:?} must come back, not {read:?}"
    );
    verdict.map_or_else(|refused| shape(&refused.to_string()), |()| "valid".into())
}

/// Lines of a sink's output are refused, found wrong, or hold only trails that were really signed.
pub fn trail(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    let all = match Evidence::parse_all(text) {
        Ok(all) => all,
        Err(error) => return shape(&error.to_string()),
    };
    let mut words = format!("{} sinks", all.len());
    for evidence in all {
        let found = audit(&evidence.output, &SIGNED.roots, None);
        let found = found.map_or_else(|error| panic!("{error}"), |audit| audit.findings);
        for stored in evidence.output {
            let broken = found.iter().any(|finding| finding.id == stored.message.id);
            let known = (stored.message.id.to_string(), stored.message.trail);
            assert!(
                broken || SIGNED.trails.contains(&key(&known.0, &known.1)),
                "a trail that nobody signed was accepted: {known:?}"
            );
        }
        for finding in found {
            words += finding.problem;
        }
    }
    words
}

/// An identity file is refused, or can sign.
pub fn identity(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    match Signer::from_identity_file(&text) {
        Ok(signer) => signer.name().to_string(),
        Err(error) => shape(&error.to_string()),
    }
}

/// The last segment of a journal is refused as it is, or cut and gone on with.
pub fn journal(input: &[u8]) -> String {
    /// Spares the time of syncs: no machine crashes here.
    #[derive(Debug)]
    struct Unsynced;
    impl Disk for Unsynced {
        fn sync(&self, _: &fs::File) -> io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
    let segment = folder.path().join("00000000000000000001.log");
    let open = || {
        let disk = Arc::new(Unsynced);
        let options = Options {
            disk,
            // A file of a few KB needs none, and 4 MiB of zeros take longer than all the rest.
            preallocate: 0,
            ..Options::default()
        };
        Journal::open(folder.path(), options)
    };
    let read = |journal: &Journal| journal.reader().read(0, usize::MAX, usize::MAX);
    drop(open());
    let written = fs::write(&segment, input);
    assert!(written.is_ok(), "{written:?}");
    let mut journal = match open() {
        Ok(journal) => journal,
        Err(error) => {
            let kept = fs::read(&segment);
            assert!(
                kept.is_ok_and(|kept| kept == input),
                "a refusal changes nothing"
            );
            return shape(&error.to_string());
        }
    };
    let mut records = read(&journal).unwrap_or_else(|error| panic!("checked before: {error}"));
    let words = format!("{} records of {} bytes", records.len(), journal.bytes());
    let next = journal.next();
    let appended = journal.append([&b"next"[..]]);
    assert!(
        appended.as_ref().is_ok_and(|range| range.start == next),
        "{appended:?}"
    );
    records.push((next, b"next".to_vec()));
    drop(journal);
    let again = open().and_then(|journal| read(&journal));
    assert!(
        again.as_ref().is_ok_and(|again| *again == records),
        "{again:?}, not {records:?}"
    );
    words
}

struct Signed {
    roots: Vec<CertificateDer<'static>>,
    trails: HashSet<String>,
}

/// What the vectors hold that is good.
static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap_or_default();
    let roots = vectors["roots"].as_str().unwrap_or_default();
    let roots: Vec<_> = CertificateDer::pem_slice_iter(roots.as_bytes())
        .flatten()
        .collect();
    assert!(!roots.is_empty(), "the vectors must have roots");
    let cases = vectors["cases"].as_array().into_iter().flatten();
    let good = cases.filter(|case| case["signers"].is_array());
    let trails = good.filter_map(|case| {
        let trail: Vec<Hop> = serde_json::from_value(case["trail"].clone()).ok()?;
        Some(key(case["id"].as_str()?, &trail))
    });
    Signed {
        roots,
        trails: trails.collect(),
    }
});

fn key(id: &str, trail: &[Hop]) -> String {
    format!("{id} {trail:?}")
}

/// A text without what depends on the input: enough to tell one refusal from another.
fn shape(text: &str) -> String {
    let mut quoted = false;
    text.chars()
        .filter(|character| {
            if *character == '`' {
                quoted = !quoted;
            }
            !quoted && character.is_ascii_alphabetic()
        })
        .take(120)
        .collect()
}
