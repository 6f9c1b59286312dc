//! Evidence in other hands: a live sink's output, tampered with in each way, before our verifier and before one in
//! another language that knows only the document and the roots.

use std::path::Path;

use e2e::testing::{Ferry, or_untested, with_environment};
use harness::{
    proof,
    trail::{Audit, StoredMessage, audit},
};
use host::process::{self, CommandLine};
use rstest::rstest;
use serde_json::Value;

use crate::clients::ready_python;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/verify_trail.py");
const VECTORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../services/messages/tests/golden/signature-vectors.json"
);

type Tamper = fn(&mut Vec<StoredMessage>);

/// What an attacker does to the second message, and what must be said of which (index, hop).
const TAMPERS: [(&str, Tamper, u64, Option<u64>, &str); 11] = [
    (
        "a field",
        |all| all[1].message.trail[1].node = "elsewhere".into(),
        2,
        Some(2),
        "altered",
    ),
    (
        "the claimed pod",
        |all| all[1].message.trail[0].pod = "gateway-0".into(),
        2,
        Some(1),
        "altered",
    ),
    (
        "a time",
        |all| all[1].message.trail[0].at = all[0].message.trail[0].at,
        2,
        Some(1),
        "altered",
    ),
    (
        "signature",
        |all| {
            let foreign = all[0].message.trail[1].signature.clone();
            let own = &mut all[1].message.trail[1].signature;
            let parts = own.rsplit_once('.').zip(foreign.rsplit_once('.'));
            let ((header, _), (_, bytes)) = parts.expect("a signature has three parts");
            *own = format!("{header}.{bytes}");
        },
        2,
        Some(2),
        "forged",
    ),
    (
        "no signature",
        |all| all[1].message.trail[0].signature.clear(),
        2,
        Some(1),
        "unsigned",
    ),
    (
        "first hop gone",
        |all| drop(all[1].message.trail.remove(0)),
        2,
        Some(1),
        "dropped",
    ),
    (
        "last hop gone",
        |all| drop(all[1].message.trail.pop()),
        2,
        None,
        "incomplete",
    ),
    (
        "hops swapped",
        |all| all[1].message.trail.swap(0, 1),
        2,
        Some(1),
        "reordered",
    ),
    (
        "trail of another",
        |all| all[1].message.trail = all[0].message.trail.clone(),
        2,
        Some(1),
        "replayed",
    ),
    (
        "message again",
        |all| {
            let mut again = all[0].clone();
            again.index = 2;
            all[1] = again;
        },
        2,
        None,
        "stored-twice",
    ),
    (
        "message gone",
        |all| drop(all.remove(1)),
        3,
        None,
        "messages-missing",
    ),
];

#[tokio::test]
async fn python_verifier_judges_vectors_alike() -> anyhow::Result<()> {
    let Some(python) = Python::ready().await? else {
        return Ok(());
    };
    let (passed, wrong) = python.run(&["--vectors", VECTORS]).await?;
    assert!(passed && wrong.is_empty(), "{wrong:#?}");
    // Vectors that say otherwise must be noticed.
    let lie = std::fs::read_to_string(VECTORS)?.replacen("\"forged\"", "\"altered\"", 2);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), lie)?;
    let path = file.path().to_string_lossy();
    let (passed, wrong) = python.run(&["--vectors", &path]).await?;
    assert!(!passed && !wrong.is_empty(), "a lie must be noticed");
    Ok(())
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn tampering_with_live_output_is_named(#[case] blueprint: &str) -> anyhow::Result<()> {
    let python = Python::ready().await?;
    with_environment(blueprint, |ferry| async move {
        ferry.messages().prove().await?;
        let live = proof::audit_sink(&ferry.environment()?, &ferry.sink()?).await?;
        assert_eq!(live.findings, [], "what pods have stored must be good");
        assert!(
            live.messages >= 5 && live.hops == 2 * live.messages,
            "{live:?}"
        );

        // In an environment that was attached to, indexes do not start at 1.
        let mut good = ferry.messages().output(0).await?;
        good.drain(..good.len() - 5);
        for (index, stored) in (1..).zip(&mut good) {
            stored.index = index;
        }
        assert_eq!(judge(&ferry, python.as_ref(), &good).await?, []);
        for (name, tamper, index, hop, problem) in TAMPERS {
            let mut output = good.clone();
            tamper(&mut output);
            let found = judge(&ferry, python.as_ref(), &output).await?;
            let expected = (index, hop, problem.to_owned());
            assert_eq!(found.first(), Some(&expected), "{name}: {found:?}");
            assert!(
                found.iter().all(|(at, ..)| *at == index),
                "{name} must blame one message: {found:?}"
            );
        }
        let stranger = identity::Root::create("stranger")?;
        let foreign = audit(&good, &[stranger.certificate_der().clone()], None)?;
        assert_eq!(
            foreign.findings.len(),
            foreign.hops,
            "no hop is good for another root"
        );
        Ok(())
    })
    .await
}

type Verdict = Vec<(u64, Option<u64>, String)>;

/// What both verifiers say of `output`: the same.
async fn judge(
    ferry: &Ferry,
    python: Option<&Python>,
    output: &[StoredMessage],
) -> anyhow::Result<Verdict> {
    let environment = ferry.environment()?;
    let roots = proof::roots(&environment)?;
    let ours = verdict(&audit(output, &roots, None)?);
    if let Some(python) = python {
        let folder = tempfile::tempdir()?;
        let lines: Result<Vec<_>, _> = output.iter().map(serde_json::to_string).collect();
        let file = folder.path().join("output.ndjson");
        std::fs::write(&file, lines?.join("\n"))?;
        let pem = environment
            .layout()
            .identity()
            .join(identity::ROOT_CERTIFICATE);
        let (passed, found) = python.run(&[&text(&pem), &text(&file)]).await?;
        let theirs: Verdict = found
            .iter()
            .map(|found| {
                let problem = found["problem"].as_str().unwrap_or_default().to_owned();
                (
                    found["index"].as_u64().unwrap_or_default(),
                    found["hop"].as_u64(),
                    problem,
                )
            })
            .collect();
        assert_eq!(theirs, ours, "both verifiers must say the same");
        assert_eq!(passed, ours.is_empty(), "its exit code must say so");
    }
    Ok(ours)
}

fn verdict(audit: &Audit) -> Verdict {
    let findings = audit.findings.iter();
    findings
        .map(|found| {
            (
                found.index,
                found.hop.map(|hop| hop as u64),
                found.problem.to_owned(),
            )
        })
        .collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A Python with `cryptography`.
struct Python(String);

impl Python {
    async fn ready() -> anyhow::Result<Option<Self>> {
        let program = or_untested(ready_python().await, "the verifier in Python")?;
        Ok(program.map(|program| Self(text(&program))))
    }

    /// Whether it found nothing, and what it found.
    async fn run(&self, args: &[&str]) -> anyhow::Result<(bool, Vec<Value>)> {
        let command = CommandLine::new(&self.0)
            .args([SCRIPT])
            .args(args.iter().copied());
        let done = process::output(&command).await?;
        anyhow::ensure!(
            matches!(done.status.code(), Some(0 | 1)) && done.stderr.is_empty(),
            "the verifier failed: {}",
            done.tail(30)
        );
        let found: Result<Vec<_>, _> = done.stdout.lines().map(serde_json::from_str).collect();
        Ok((done.status.success(), found?))
    }
}
