//! Identities as peers verify them, and authorities that are refused.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use rcgen::{BasicConstraints, IsCa, KeyPair};
use wosp::{
    authority::{Authority, CERTIFICATE, KEY, ROOTS},
    mint::{Identity, mint},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::support::{
    HOUR, Request, authority_folder, certificates, gateway, issuer_below, root, sink, verify,
    write, write_authority,
};

const LIFETIME: Duration = Duration::from_secs(60);

fn mint_from(folder: &Path, now: Timestamp) -> Result<Identity, String> {
    let authority = Authority::read(folder, &sink()).map_err(|error| error.to_string())?;
    mint(&authority, &sink(), LIFETIME, now).map_err(|error| error.to_string())
}

/// The reason must contain `expected`, name what to do, and hold no key.
#[track_caller]
fn assert_refused(folder: &Path, now: Timestamp, expected: &str) {
    let reason = mint_from(folder, now).unwrap_err();
    assert!(
        reason.contains(expected),
        "`{reason}` must contain `{expected}`"
    );
    assert!(
        reason.contains("; replace the pod's authority") || reason.contains("; mount"),
        "`{reason}` must say what to do"
    );
    assert!(!reason.contains("PRIVATE"), "{reason}");
}

#[test]
fn identity_has_name_and_validity() {
    let root = root(10 * HOUR);
    let folder = authority_folder(&root, &Request::of(&sink(), HOUR));
    let now = Timestamp::now();
    let identity = mint_from(folder.path(), now).unwrap();
    let chain = certificates(&identity.chain_pem);
    assert_eq!(chain.len(), 2, "leaf and authority");
    let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
    let names: Vec<_> = leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .clone();
    assert_eq!(
        names,
        [
            GeneralName::DNSName("sink.cluster-b.international-ferry.ferry.internal"),
            GeneralName::URI("spiffe://international-ferry.ferry.internal/cluster-b/sink"),
        ]
    );
    assert!(!leaf.is_ca());
    let validity = leaf.validity();
    assert_eq!(validity.not_before.timestamp(), now.as_second() - 60);
    assert_eq!(validity.not_after.timestamp(), now.as_second() + 60);
    assert_eq!(identity.not_after.as_second(), now.as_second() + 60);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert!(!usage.value.key_cert_sign());
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}

#[test]
fn peers_accept_identity_until_it_expires() {
    let root = root(10 * HOUR);
    let folder = authority_folder(&root, &Request::of(&sink(), HOUR));
    let now = Timestamp::now();
    let chain = mint_from(folder.path(), now).unwrap().chain_pem;
    let at = |seconds| now + jiff::SignedDuration::from_secs(seconds);
    assert_eq!(verify(root.der(), &chain, &sink(), at(0)), Ok(()));
    assert_eq!(verify(root.der(), &chain, &sink(), at(-59)), Ok(()));
    assert!(verify(root.der(), &chain, &sink(), at(-62)).is_err());
    assert!(verify(root.der(), &chain, &sink(), at(62)).is_err());
    assert!(verify(root.der(), &chain, &gateway(), at(0)).is_err());
}

#[test]
fn identities_differ_in_key_and_serial() {
    let folder = authority_folder(&root(10 * HOUR), &Request::of(&sink(), HOUR));
    let mint = || mint_from(folder.path(), Timestamp::now()).unwrap();
    let (first, second) = (mint(), mint());
    assert_ne!(first.key_pem, second.key_pem);
    let serial = |identity: &Identity| {
        let chain = certificates(&identity.chain_pem);
        let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
        leaf.raw_serial().to_vec()
    };
    assert_ne!(serial(&first), serial(&second));
}

#[test]
fn identity_never_outlives_its_authority() {
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    write_authority(
        folder.path(),
        &root(10 * HOUR),
        &Request::of(&sink(), 2 * LIFETIME),
    );
    assert!(mint_from(folder.path(), now).is_ok());
    assert_refused(
        folder.path(),
        now + Duration::from_secs(90),
        "before an identity of 60s would",
    );
    assert_refused(folder.path(), now + HOUR, "the authority expired at");
    let early = mint_from(folder.path(), now - 2 * HOUR).unwrap_err();
    assert!(early.contains("is valid from") && early.ends_with("; set its clock right"));
    write_authority(
        folder.path(),
        &root(LIFETIME / 2),
        &Request::of(&sink(), HOUR),
    );
    assert_refused(folder.path(), now, "before an identity of 60s would");
}

#[test]
fn authority_of_another_pod_is_refused() {
    let folder = authority_folder(&root(10 * HOUR), &Request::of(&gateway(), HOUR));
    assert_refused(
        folder.path(),
        Timestamp::now(),
        "is for `gateway.cluster-a.international-ferry.ferry.internal` and this pod is `sink.",
    );
}

#[test]
fn leaf_certificate_is_no_authority() {
    let folder = tempfile::tempdir().unwrap();
    let mut leaf = Request::of(&sink(), HOUR);
    leaf.is_ca = IsCa::ExplicitNoCa;
    write_authority(folder.path(), &root(10 * HOUR), &leaf);
    assert_refused(
        folder.path(),
        Timestamp::now(),
        "is not the certificate of an authority",
    );
}

#[test]
fn untrusted_authority_is_refused() {
    let folder = authority_folder(&root(10 * HOUR), &Request::of(&sink(), HOUR));
    write(folder.path(), ROOTS, &root(10 * HOUR).pem());
    assert_refused(
        folder.path(),
        Timestamp::now(),
        "identity of `sink.cluster-b.international-ferry.ferry.internal` that peers accept",
    );
}

#[test]
fn wide_authority_works_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(10 * HOUR);
    for (permitted, warning) in [
        (vec![sink().to_string()], None),
        (vec![], Some("is not constrained")),
        (vec!["ferry.internal".into()], Some("more than this pod")),
        (
            vec![sink().to_string(), gateway().to_string()],
            Some("more than this pod"),
        ),
    ] {
        let mut request = Request::of(&sink(), HOUR);
        request.permitted = permitted;
        write_authority(folder.path(), &root, &request);
        let authority = Authority::read(folder.path(), &sink()).unwrap();
        assert_eq!(
            authority.warning().is_some(),
            warning.is_some(),
            "{:?}: {:?}",
            request.permitted,
            authority.warning()
        );
        assert!(
            authority
                .warning()
                .unwrap_or_default()
                .contains(warning.unwrap_or_default())
        );
        assert!(mint_from(folder.path(), Timestamp::now()).is_ok());
    }
}

#[test]
fn authority_below_an_operators_ca_works() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(10 * HOUR);
    let mut between = Request::of(&sink(), HOUR);
    between.permitted = vec!["ferry.internal".into()];
    between.common_name = "operator";
    between.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let between = issuer_below(&root, &between);
    write_authority(folder.path(), &between, &Request::of(&sink(), HOUR));
    let own = std::fs::read_to_string(folder.path().join(CERTIFICATE)).unwrap();
    let chain = format!("{own}a comment\n{}", between.pem());
    write(folder.path(), CERTIFICATE, &chain);
    write(folder.path(), ROOTS, &root.pem());
    let identity = mint_from(folder.path(), Timestamp::now()).unwrap();
    assert_eq!(certificates(&identity.chain_pem).len(), 3);
    assert_eq!(
        verify(root.der(), &identity.chain_pem, &sink(), Timestamp::now()),
        Ok(())
    );
}

#[test]
fn broken_folder_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let now = Timestamp::now();
    assert_refused(path, now, "cannot read `");
    let good = || write_authority(path, &root(10 * HOUR), &Request::of(&sink(), HOUR));
    for (name, content, expected) in [
        (
            CERTIFICATE,
            "",
            "tls.crt` does not hold 1 to 3 certificates",
        ),
        (
            CERTIFICATE,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "no X.509",
        ),
        (KEY, "", "tls.key` holds no ECDSA P-256 key"),
        (
            KEY,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "tls.key` holds no",
        ),
        (ROOTS, "nonsense", "ca.crt` holds no certificate"),
    ] {
        good();
        write(path, name, content);
        assert_refused(path, now, expected);
    }
    good();
    write(path, KEY, &KeyPair::generate().unwrap().serialize_pem());
    assert_refused(path, now, "does not belong to the key");
    good();
    write(path, ROOTS, &"x".repeat(5 * 1024 * 1024));
    assert_refused(path, now, "larger than");
}

#[test]
fn renewal_is_due_in_the_last_fifth() {
    let folder = tempfile::tempdir().unwrap();
    // An hour old: a life of five hours in all.
    write_authority(
        folder.path(),
        &root(10 * HOUR),
        &Request::of(&sink(), 4 * HOUR),
    );
    let authority = Authority::read(folder.path(), &sink()).unwrap();
    let end = authority.not_after();
    let minute = Duration::from_secs(60);
    assert!(!authority.is_renewal_due(end - HOUR - minute));
    assert!(authority.is_renewal_due(end - HOUR + minute));
    assert!(authority.is_renewal_due(end + HOUR));
}
