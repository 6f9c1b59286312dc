//! Signatures, headers, chains and roots that break the document.

use messages::{
    Hop,
    signature::{HopProblem, TrailError, TrailVerifier, verify_trail},
};
use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::Path;
use crate::{
    independent,
    mint::{self, Leaf, at},
};

#[test]
fn unreadable_signature_is_named() {
    let path = Path::new();
    let good = &path.trail[0].signature;
    for (signature, text) in [
        ("", "not signed"),
        ("x", "not a compact JWS"),
        ("..", "header"),
        ("e30..AAAA", "missing field"),
        (&good.replace("..", ".e30."), "payload part must be empty"),
        (&format!("{good}.x"), "not a compact JWS"),
        (&format!("{good}="), "signature"),
        (&"A".repeat(9000), "over the limit"),
        (&good[..good.len() - 2], "forged"),
    ] {
        let trail = [Hop {
            signature: signature.into(),
            ..path.trail[0].clone()
        }];
        path.assert_problem(&trail, 0, text);
    }
}

#[test]
fn header_must_follow_the_document() {
    let path = Path::new();
    let leaf = &path.leaves[0];
    let good = independent::header(leaf);
    let x5c = &good["x5c"];
    for (header, text) in [
        (json!({"alg": "none", "x5c": x5c}), "expected `ES256`"),
        (json!({"alg": "HS256", "x5c": x5c}), "expected `ES256`"),
        (json!({"alg": "ES256"}), "missing field `x5c`"),
        (json!({"alg": "ES256", "x5c": []}), "0 certificates"),
        (
            json!({"alg": "ES256", "x5c": [x5c[0], x5c[1], x5c[1], x5c[1], x5c[1]]}),
            "5 certificates",
        ),
        (
            json!({"alg": "ES256", "x5c": ["AAAA", x5c[1]]}),
            "certificate 0",
        ),
        (json!({"alg": "ES256", "x5c": ["@", x5c[1]]}), "`x5c[0]`"),
        (
            json!({"alg": "ES256", "x5c": x5c, "crit": ["b64"], "b64": false}),
            "`crit`",
        ),
        (json!([]), "header"),
    ] {
        let hop = independent::sign_with_header(leaf, &header, path.id, &[], path.own_hop(0));
        path.assert_problem(&[hop], 0, text);
    }
    let more = json!({"alg": "ES256", "x5c": x5c, "typ": "ferry", "kid": "1"});
    let hop = independent::sign_with_header(leaf, &more, path.id, &[], path.own_hop(0));
    assert!(verify_trail(path.id, &[hop], &path.roots).is_ok());
}

#[test]
fn cached_chain_is_checked_again() {
    let path = Path::new();
    let brief = mint::leaf_of(&[&path.authorities[0]], &[&path.names[0]], (2026, 2027));
    let mut verifier = TrailVerifier::new(&path.roots).unwrap();
    let good = path.with(0, &brief, path.own_hop(0));
    for _ in 0..2 {
        assert_eq!(verifier.verify(path.id, &good).unwrap(), path.names[..1]);
    }
    let late = Hop {
        at: at("2027-01-02T00:00:00Z"),
        ..path.own_hop(0)
    };
    let error = verifier
        .verify(path.id, &path.with(0, &brief, late))
        .unwrap_err();
    assert!(
        matches!(error.problem(), Some(HopProblem::NotValidAt { .. })),
        "{error}"
    );
    let error = verifier
        .verify(path.id, &path.with(0, &brief, path.own_hop(1)))
        .unwrap_err();
    assert!(
        matches!(error.problem(), Some(HopProblem::WrongIdentity { .. })),
        "{error}"
    );
    let mut altered = good.clone();
    altered[0].node.push('x');
    let error = verifier.verify(path.id, &altered).unwrap_err();
    assert!(
        matches!(error.problem(), Some(HopProblem::Forged { .. })),
        "{error}"
    );
    let stranger = Leaf {
        chain: vec![brief.chain[0].clone(), path.authorities[1].der().clone()],
        ..brief
    };
    let error = verifier
        .verify(path.id, &path.with(0, &stranger, path.own_hop(0)))
        .unwrap_err();
    assert!(
        matches!(error.problem(), Some(HopProblem::NotOfThisRoot { .. })),
        "{error}"
    );
}

#[test]
fn roots_that_are_none_are_refused() {
    let path = Path::new();
    assert_eq!(
        verify_trail(path.id, &path.trail, &[]),
        Err(TrailError::NoRoot)
    );
    let rubbish = [path.roots[0].clone(), CertificateDer::from(vec![1, 2, 3])];
    let error = verify_trail(path.id, &path.trail, &rubbish).unwrap_err();
    assert!(
        matches!(error, TrailError::Root { index: 1, .. }),
        "{error}"
    );
}

#[test]
fn hop_fields_cannot_forge_log_lines() {
    let path = Path::new();
    let trail = [Hop {
        pod: "x\n\u{1b}[31m".repeat(100),
        ..path.own_hop(0)
    }];
    let said = verify_trail(path.id, &trail, &path.roots)
        .unwrap_err()
        .to_string();
    assert!(
        said.len() < 600 && !said.contains(['\n', '\u{1b}']),
        "{said}"
    );
}
