//! Keys as `openssl` and other tools write them, and damaged ones.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _,
};

use super::*;

fn pem(block: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!(
        "-----BEGIN {block}-----\n{}\n-----END {block}-----\n",
        lines.join("\n")
    )
}

/// The key as `openssl ecparam -genkey` writes it, with or without its curve and its public key.
fn sec1(key: &KeyPair, curve: Option<&[u8]>, public: bool) -> String {
    let pkcs8 = key.serialize_der();
    let inner = Info::read(&pkcs8).unwrap().key.to_vec();
    let mut content = vec![
        tagged(INTEGER, &[1]),
        tagged(OCTET_STRING, EcKey::read(&inner).unwrap().scalar),
    ];
    content.extend(curve.map(|curve| tagged(CONTEXT_0, &tagged(OID, curve))));
    if public {
        let bits = [&[0], key.public_key_raw()].concat();
        content.push(tagged(CONTEXT_1, &tagged(BIT_STRING, &bits)));
    }
    pem("EC PRIVATE KEY", &tagged(SEQUENCE, &content.concat()))
}

fn public(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}

fn of(text: &str, key: &KeyPair) -> Result<PrivatePkcs8KeyDer<'static>, KeyProblem> {
    PrivateKey::from_pem(text)?.of(&public(key))
}

#[test]
fn sec1_becomes_the_pkcs8_of_the_same_key() {
    for (algorithm, curve) in [
        (&PKCS_ECDSA_P256_SHA256, P256),
        (&PKCS_ECDSA_P384_SHA384, P384),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let parameters = pem("EC PARAMETERS", &tagged(OID, curve));
        for text in [
            key.serialize_pem(),
            sec1(&key, Some(curve), true),
            sec1(&key, None, true),
            sec1(&key, Some(curve), false),
            format!("{parameters}{}", sec1(&key, Some(curve), true)),
            sec1(&key, Some(curve), true).replace('\n', "\r\n"),
            format!("\u{feff}{}", sec1(&key, Some(curve), true)),
            format!("a comment\n{}", key.serialize_pem()),
        ] {
            let pkcs8 = of(&text, &key).unwrap();
            let again = KeyPair::try_from(&pkcs8).unwrap();
            assert_eq!(public(&again), public(&key), "{text}");
        }
    }
}

#[test]
fn key_must_match_its_certificate() {
    let new = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let (key, other) = (new(&PKCS_ECDSA_P256_SHA256), new(&PKCS_ECDSA_P256_SHA256));
    let larger = new(&PKCS_ECDSA_P384_SHA384);
    for text in [
        other.serialize_pem(),
        larger.serialize_pem(),
        new(&PKCS_ED25519).serialize_pem(),
        sec1(&other, Some(P256), true),
        sec1(&larger, None, true),
        sec1(&key, Some(P384), true),
    ] {
        assert_eq!(of(&text, &key).unwrap_err(), KeyProblem::Mismatch, "{text}");
    }
    // A file that claims another public key than its scalar has.
    let (own, claimed) = (
        sec1(&key, Some(P256), false),
        sec1(&other, Some(P256), true),
    );
    assert!(of(&own, &key).is_ok() && of(&claimed, &key).is_err());
}

#[test]
fn unusable_key_kinds_are_refused() {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    assert_eq!(
        of(&key.serialize_pem(), &key).unwrap_err(),
        KeyProblem::Kind
    );
    // 512 bits, made for this test.
    let short = pem("RSA PRIVATE KEY", &tagged(SEQUENCE, &tagged(INTEGER, &[0])));
    let rsa = [tagged(OID, RSA), tagged(NULL, &[])].concat();
    let spki = [tagged(SEQUENCE, &rsa), tagged(BIT_STRING, &[0, 0x30, 0x00])];
    let spki = tagged(SEQUENCE, &spki.concat());
    assert_eq!(
        PrivateKey::from_pem(&short).unwrap().of(&spki).unwrap_err(),
        KeyProblem::Kind
    );
}

#[test]
fn text_without_a_key_reports_its_content() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let block = |name: &str| pem(name, b"0000");
    for (text, problem) in [
        (String::new(), KeyProblem::Missing),
        ("nonsense".into(), KeyProblem::Missing),
        (block("EC PARAMETERS"), KeyProblem::Missing),
        (block("CERTIFICATE REQUEST"), KeyProblem::Missing),
        (block("CERTIFICATE"), KeyProblem::Certificate),
        (block("PUBLIC KEY"), KeyProblem::Public),
        (block("ENCRYPTED PRIVATE KEY"), KeyProblem::Encrypted),
        (block("OPENSSH PRIVATE KEY"), KeyProblem::OpenSsh),
        (block("DSA PRIVATE KEY"), KeyProblem::Kind),
        (format!("{key}{key}"), KeyProblem::Several(2)),
        (
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
             DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"
                .into(),
            KeyProblem::Encrypted,
        ),
        (
            "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n".into(),
            KeyProblem::Broken,
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n".into(),
            KeyProblem::Broken,
        ),
    ] {
        assert_eq!(PrivateKey::from_pem(&text).unwrap_err(), problem, "{text}");
    }
    let line = KeyProblem::Encrypted.remedy(&"a/tls.key").unwrap();
    assert_eq!(
        line,
        "openssl pkcs8 -topk8 -nocrypt -in a/tls.key -out a/tls.key.pkcs8"
    );
    assert_eq!(KeyProblem::Mismatch.remedy(&"tls.key"), None);
}

#[test]
fn damaged_keys_are_refused_without_panic() {
    let key = KeyPair::generate().unwrap();
    let der = key.serialize_der();
    for at in 0..der.len() {
        let cut = pem("PRIVATE KEY", &der[..at]);
        assert!(of(&cut, &key).is_err(), "cut at {at}");
        let mut changed = der.clone();
        changed[at] ^= 0x55;
        // What is no part of the key may change; then it is still the key.
        if let Ok(pkcs8) = of(&pem("PRIVATE KEY", &changed), &key) {
            assert_eq!(public(&KeyPair::try_from(&pkcs8).unwrap()), public(&key));
        }
    }
}

#[test]
fn key_is_never_shown() {
    let key = PrivateKey::from_pem(&KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(…)");
}
