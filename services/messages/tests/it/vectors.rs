//! `tests/golden/signature-vectors.json`: fixed certificates, keys and trails by which another
//! implementation of `docs/signature.md` can be checked. The keys in it are worthless and used only
//! there.

use std::sync::LazyLock;

use messages::{
    Hop, Role,
    signature::{TrailError, TrailVerifier},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    golden, independent,
    mint::{self, Leaf, hop},
};

const FILE: &str = "signature-vectors.json";

fn make() -> Value {
    let root = mint::root();
    let names = [("gateway", "cluster-a"), ("sink", "cluster-b")]
        .map(|(pod, cluster)| mint::workload(pod, cluster));
    let authorities = names.each_ref().map(|name| mint::authority(&root, name));
    let leaves: Vec<Leaf> = names
        .iter()
        .zip(&authorities)
        .map(|(name, authority)| mint::leaf(authority, name))
        .collect();
    let id: Uuid = "019a0000-0000-7000-8000-000000000001".parse().unwrap();
    let other: Uuid = "019a0000-0000-7000-8000-000000000002".parse().unwrap();

    let own = [
        hop(&names[0], Role::Gateway, 44),
        hop(&names[1], Role::Sink, 45),
    ];
    let first = leaves[0].signer().sign(id, &[], own[0].clone()).unwrap();
    let second = leaves[1]
        .signer()
        .sign(id, std::slice::from_ref(&first), own[1].clone())
        .unwrap();
    let trail = vec![first.clone(), second.clone()];
    let steps: Vec<_> = (0..2)
        .map(|index| {
            json!({
                "before": independent::before(&trail[..index]),
                "payload": independent::payload(id, &trail[..index], &trail[index]),
            })
        })
        .collect();

    let mut difficult = own[0].clone();
    difficult.node = "\u{e4}\"\\/\u{8}\u{1f}\u{7f}\u{20ac}\u{1f600}".into();
    let difficult = leaves[0].signer().sign(id, &[], difficult).unwrap();
    let minimal = independent::sign(&leaves[0], id, &[], own[0].clone());

    let altered = Hop {
        node: "another".into(),
        ..second.clone()
    };
    let forged = {
        let (header, _) = second.signature.rsplit_once('.').unwrap();
        let (_, foreign) = first.signature.rsplit_once('.').unwrap();
        Hop {
            signature: format!("{header}.{foreign}"),
            ..second.clone()
        }
    };
    let impostor = mint::leaf(&authorities[0], &names[1]);
    let foreign_root = mint::root();
    let foreign = mint::leaf(&mint::authority(&foreign_root, &names[0]), &names[0]);
    let brief = mint::leaf_of(&[&authorities[0]], &[&names[0]], (2026, 2027));
    let short = mint::authority_of(&root, &names[0], (2026, 2027));
    let long = mint::leaf_of(&[&short], &[&names[0]], (2026, 2036));
    let late = Hop {
        at: mint::at("2027-01-02T00:00:00Z"),
        ..own[0].clone()
    };
    let early = Hop {
        at: mint::at("2026-11-22T18:53:04Z"),
        ..own[1].clone()
    };

    let added = Hop {
        pod: "stowaway".into(),
        ..own[0].clone()
    };
    let added = leaves[0].signer().sign(id, &trail[..1], added).unwrap();
    let second_level = mint::authority_titled("second", &authorities[0], &names[0], mint::YEARS);
    let below = mint::leaf_of(&[&second_level, &authorities[0]], &[&names[0]], mint::YEARS);
    let both = mint::leaf_of(&[&authorities[0]], &[&names[0], &names[1]], mint::YEARS);

    let good = |name: &str, trail: &[Hop], pods: &[&str]| {
        let text = |pod: &&str| format!("{pod}.international-ferry.ferry.internal");
        let signers: Vec<_> = pods.iter().map(text).collect();
        json!({"name": name, "id": id, "trail": trail, "signers": signers})
    };
    let bad = |name: &str, id: Uuid, trail: &[Hop], broken: &[(usize, &str)]| {
        let broken = broken
            .iter()
            .map(|(hop, problem)| json!({"hop": hop, "problem": problem}));
        json!({"name": name, "id": id, "trail": trail, "broken": broken.collect::<Vec<_>>()})
    };
    let after_first = |hop: Hop| vec![first.clone(), hop];
    let first_by = |leaf, hop| vec![independent::sign(leaf, id, &[], hop)];
    let second_by = |leaf, hop| after_first(independent::sign(leaf, id, &trail[..1], hop));
    let moved = Hop {
        node: "another".into(),
        ..first.clone()
    };
    let malformed = Hop {
        signature: "e30..AAAA".into(),
        ..own[0].clone()
    };
    let cases = vec![
        good("two hops", &trail, &["gateway.cluster-a", "sink.cluster-b"]),
        good(
            "texts that need escapes",
            &[difficult],
            &["gateway.cluster-a"],
        ),
        good(
            "a header without the member ferry",
            &[minimal],
            &["gateway.cluster-a"],
        ),
        good(
            "cut off at its end: shorter, and good as such",
            &trail[..1],
            &["gateway.cluster-a"],
        ),
        good(
            "a clock that is behind that of the hop before",
            &second_by(&leaves[1], early),
            &["gateway.cluster-a", "sink.cluster-b"],
        ),
        bad("altered", id, &after_first(altered), &[(1, "altered")]),
        bad(
            "altered, with good hops after it",
            id,
            &[moved, second.clone()],
            &[(0, "altered")],
        ),
        bad("forged", id, &after_first(forged), &[(1, "forged")]),
        bad("first hop dropped", id, &trail[1..], &[(0, "dropped")]),
        bad(
            "reordered",
            id,
            &[second.clone(), first.clone()],
            &[(0, "reordered"), (1, "reordered")],
        ),
        bad(
            "repeated",
            id,
            &[first.clone(), first.clone(), second.clone()],
            &[(1, "repeated")],
        ),
        bad(
            "added",
            id,
            &[first.clone(), added, second.clone()],
            &[(2, "added")],
        ),
        bad(
            "replayed",
            other,
            &trail,
            &[(0, "replayed"), (1, "replayed")],
        ),
        bad(
            "signed by another pod",
            id,
            &second_by(&leaves[0], own[1].clone()),
            &[(1, "wrong-identity")],
        ),
        bad(
            "authority of another pod",
            id,
            &second_by(&impostor, own[1].clone()),
            &[(1, "name-not-permitted")],
        ),
        bad(
            "authority below an authority",
            id,
            &first_by(&below, own[0].clone()),
            &[(0, "bad-chain")],
        ),
        bad(
            "two names",
            id,
            &first_by(&both, own[0].clone()),
            &[(0, "no-identity")],
        ),
        bad(
            "another root",
            id,
            &first_by(&foreign, own[0].clone()),
            &[(0, "other-root")],
        ),
        bad(
            "expired",
            id,
            &first_by(&brief, late),
            &[(0, "not-valid-then")],
        ),
        bad(
            "outlives its authority",
            id,
            &first_by(&long, own[0].clone()),
            &[(0, "outlives-authority")],
        ),
        bad("unsigned", id, &[own[0].clone()], &[(0, "unsigned")]),
        bad("not a signature", id, &[malformed], &[(0, "malformed")]),
    ];
    let identities = names.iter().zip(&leaves).map(|(name, leaf)| {
        json!({
            "name": name, "certificate_chain": leaf.chain_pem, "private_key": leaf.key_pem,
        })
    });
    json!({
        "comment": concat!(
            "Test vectors for docs/signature.md. The keys are for tests only and open nothing. ",
            "Written by FERRY_UPDATE_GOLDEN=1."
        ),
        "roots": root.pem(),
        "identities": identities.collect::<Vec<_>>(),
        "steps": {"of": "two hops", "hops": steps},
        "cases": cases,
    })
}

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    if golden::is_update() {
        let text = serde_json::to_string_pretty(&make()).unwrap();
        golden::write(FILE, &format!("{text}\n"));
    }
    serde_json::from_str(&golden::read(FILE)).unwrap()
});

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[test]
fn vectors_are_judged_as_stated() {
    let vectors = &*VECTORS;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(text(vectors, "roots").as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let name = text(case, "name");
        let id = text(case, "id").parse().unwrap();
        let trail: Vec<Hop> = serde_json::from_value(case["trail"].clone()).unwrap();
        let mut verifier = TrailVerifier::new(&roots).unwrap();
        match verifier.examine(id, &trail) {
            Ok(signers) => assert_eq!(json!(signers), case["signers"], "{name}"),
            Err(errors) => {
                let word = |error: &TrailError| match error {
                    TrailError::Hop { index, problem, .. } => {
                        json!({"hop": index, "problem": problem.word()})
                    }
                    other => panic!("{name}: `{other}` must name a hop"),
                };
                let broken: Vec<_> = errors.iter().map(word).collect();
                assert_eq!(json!(broken), case["broken"], "{name}");
            }
        }
    }
}

#[test]
fn vector_steps_match_the_document() {
    let vectors = &*VECTORS;
    let case = &vectors["cases"][0];
    let id = text(case, "id").parse().unwrap();
    let trail: Vec<Hop> = serde_json::from_value(case["trail"].clone()).unwrap();
    for (index, step) in vectors["steps"]["hops"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        assert_eq!(text(step, "before"), independent::before(&trail[..index]));
        assert_eq!(
            text(step, "payload"),
            independent::payload(id, &trail[..index], &trail[index])
        );
    }
}

#[test]
fn identities_of_the_vectors_can_sign() {
    let vectors = &*VECTORS;
    for identity in vectors["identities"].as_array().unwrap() {
        let signer = messages::signature::Signer::from_pem(
            text(identity, "certificate_chain"),
            text(identity, "private_key"),
        )
        .unwrap();
        assert_eq!(signer.name().to_string(), text(identity, "name"));
        assert_eq!(signer.not_after(), mint::at("2100-01-01T00:00:00Z"));
    }
}
