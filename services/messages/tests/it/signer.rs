//! Reading an identity and signing with it.

use messages::{
    Hop, Role, WorkloadName,
    limits::MAX_SIGNATURE_BYTES,
    signature::{SignError, Signer, TrailVerifier},
};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};
use uuid::Uuid;

use crate::mint::{self, Leaf, at, hop};

fn sink() -> (WorkloadName, Leaf) {
    let name = mint::workload("sink", "cluster-b");
    let root = mint::root();
    let leaf = mint::leaf(&mint::authority(&root, &name), &name);
    (name, leaf)
}

#[test]
fn identity_file_of_wosp_makes_a_signer() {
    let (name, leaf) = sink();
    let signer = Signer::from_identity_file(&leaf.identity_file()).unwrap();
    assert_eq!(signer.name(), &name);
    assert_eq!(signer.not_before(), at("2026-01-01T00:00:00Z"));
    assert_eq!(signer.not_after(), at("2100-01-01T00:00:00Z"));
}

#[test]
fn signer_is_valid_while_its_chain_is() {
    let name = mint::workload("sink", "cluster-b");
    let authority = mint::authority_of(&mint::root(), &name, (2027, 2030));
    let signer = mint::leaf_of(&[&authority], &[&name], (2026, 2040)).signer();
    assert_eq!(signer.not_before(), at("2027-01-01T00:00:00Z"));
    assert_eq!(signer.not_after(), at("2030-01-01T00:00:00Z"));
}

#[test]
fn no_key_is_shown() {
    let (_, leaf) = sink();
    let signer = leaf.signer();
    let key = leaf.key_pem.lines().nth(1).unwrap();
    let shown = format!("{signer:?} {signer:#?}");
    assert!(shown.contains("sink.cluster-b"), "{shown}");
    assert!(
        !shown.contains(&key[..20]) && !shown.contains("key"),
        "{shown}"
    );
    let broken = leaf.identity_file().replace(&key[40..50], "!!!!!!!!!!");
    for text in [
        broken.as_str(),
        &leaf.identity_file().replace("BEGIN PRIVATE", "BEGIN"),
    ] {
        let error = Signer::from_identity_file(text).unwrap_err();
        assert!(
            !format!("{error:?} {error}").contains(&key[..20]),
            "{error:?}"
        );
    }
}

#[track_caller]
fn assert_refused(chain: &str, key: &str, cause: &str) {
    let error = Signer::from_pem(chain, key).unwrap_err();
    assert!(
        error.to_string().contains(cause),
        "`{error}` must say `{cause}`"
    );
}

#[test]
fn invalid_identity_is_refused() {
    let (name, leaf) = sink();
    let (_, other) = sink();
    let (chain, key) = (&leaf.chain_pem, &leaf.key_pem);
    assert_refused(chain, &other.key_pem, "not the one of the leaf");
    assert_refused(chain, chain, "not a PKCS #8 key");
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert_refused(chain, &p384.serialize_pem(), "not a PKCS #8 key");
    assert_refused("", key, "0 certificates");
    assert_refused(&chain.repeat(3), key, "6 certificates");
    assert_refused(&chain.replacen("MII", "MIJ", 1), key, "certificate 0");
    assert_refused(&chain.replacen("-----END", "-----ENDE", 1), key, "not PEM");

    let authority = mint::authority(&mint::root(), &name);
    let nameless = mint::leaf_of(&[&authority], &[], mint::YEARS);
    assert_refused(&nameless.chain_pem, &nameless.key_pem, "0 DNS names");
    let twice = mint::leaf_of(&[&authority], &[&name, &name], mint::YEARS);
    assert_refused(&twice.chain_pem, &twice.key_pem, "2 DNS names");
}

#[test]
fn invalid_identity_file_is_refused() {
    let (_, leaf) = sink();
    for (text, cause) in [
        ("", "not an SDS resource"),
        ("{}", "not an SDS resource"),
        (r#"{"resources":[]}"#, "named `identity`"),
        (
            &leaf.identity_file().replace(r#""identity""#, r#""roots""#),
            "named `identity`",
        ),
    ] {
        let error = Signer::from_identity_file(text).unwrap_err();
        assert!(
            error.to_string().contains(cause),
            "`{error}` must say `{cause}`"
        );
    }
}

#[test]
fn signer_signs_only_for_its_pod() {
    let (name, leaf) = sink();
    let gateway = mint::workload("gateway", "cluster-a");
    let error = leaf
        .signer()
        .sign(Uuid::now_v7(), &[], hop(&gateway, Role::Sink, 1))
        .unwrap_err();
    assert!(
        matches!(&error, SignError::OtherPod { name: own, .. } if *own == name),
        "{error}"
    );
}

#[test]
fn signer_refuses_hops_outside_its_validity() {
    let (name, leaf) = sink();
    let signer = leaf.signer();
    for moment in [
        "2025-12-31T23:59:59.999999Z",
        "2100-01-01T00:00:01Z",
        "1901-01-01T00:00:00Z",
    ] {
        let hop = Hop {
            at: at(moment),
            ..hop(&name, Role::Sink, 1)
        };
        let error = signer.sign(Uuid::now_v7(), &[], hop).unwrap_err();
        assert!(matches!(error, SignError::NotValidAt { .. }), "{error}");
    }
}

#[test]
fn hop_keeps_the_time_of_its_clock() {
    let (name, leaf) = sink();
    let signer = leaf.signer();
    let id = Uuid::now_v7();
    let first = signer
        .sign(id, &[], hop(&name, Role::Processor, 9))
        .unwrap();
    let second = signer
        .sign(id, std::slice::from_ref(&first), hop(&name, Role::Sink, 3))
        .unwrap();
    assert!(second.at < first.at);
    assert_eq!(second.at, hop(&name, Role::Sink, 3).at);
}

#[test]
fn identity_life_starts_at_its_minting() {
    let (name, _) = sink();
    let root = mint::root();
    let authority = mint::authority(&root, &name);
    let life = |valid| {
        let leaf = mint::leaf_for(&authority, &name, valid);
        leaf.signer().life().as_secs()
    };
    assert_eq!(life(120), 60);
    // By agents that date back less, or not at all.
    assert_eq!(life(70), 10);
    assert_eq!(life(60), 60);
    assert_eq!(life(24), 24);
}

#[test]
fn longest_names_fit_the_signature_limit() {
    let label = "x".repeat(63);
    let name = WorkloadName::new(&label[..56], &label, &label).unwrap();
    let root = mint::root();
    let leaf = mint::leaf(&mint::authority(&root, &name), &name);
    let id = Uuid::now_v7();
    let signed = leaf
        .signer()
        .sign(id, &[], hop(&name, Role::Sink, 1))
        .unwrap();
    assert!(
        signed.signature.len() * 2 < MAX_SIGNATURE_BYTES,
        "{}",
        signed.signature.len()
    );
    let names = TrailVerifier::new(&mint::roots(&root))
        .unwrap()
        .verify(id, &[signed]);
    assert_eq!(names.unwrap(), [name]);
}
