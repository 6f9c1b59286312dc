use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P384_SHA384,
};

use super::*;
use crate::{AUTHORITY_CERTIFICATE, request as ask, request_file};

fn sink() -> WorkloadName {
    WorkloadName::new("international-ferry", "cluster-b", "sink").unwrap()
}

fn gateway() -> WorkloadName {
    WorkloadName::new("international-ferry", "cluster-a", "gateway").unwrap()
}

/// A CA of somebody's own.
struct Ca {
    key: KeyPair,
    parameters: CertificateParams,
}

impl Ca {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, "their root");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another curve than ours: it is theirs.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        Self { key, parameters }
    }

    fn pem(&self) -> String {
        self.parameters.self_signed(&self.key).unwrap().pem()
    }

    fn root(&self) -> Root {
        root(&self.pem()).unwrap()
    }

    fn sign(&self, parameters: &CertificateParams, key: &KeyPair) -> String {
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        parameters.signed_by(key, &issuer).unwrap().pem()
    }
}

fn permitting(names: &[String]) -> Option<NameConstraints> {
    let names = names.iter().cloned().map(GeneralSubtree::DnsName);
    Some(NameConstraints {
        permitted_subtrees: names.collect(),
        excluded_subtrees: vec![],
    })
}

/// What a careful CA makes of a request of `name`.
fn good(name: &WorkloadName) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters.name_constraints = permitting(&[name.to_string()]);
    parameters
}

fn new_key() -> KeyPair {
    crate::new_key().unwrap()
}

/// What the check says of a certificate that differs from a good one by `change`.
fn refused(change: impl FnOnce(&mut CertificateParams)) -> Vec<String> {
    let (ca, key) = (Ca::new(), new_key());
    let mut parameters = good(&sink());
    change(&mut parameters);
    let text = ca.sign(&parameters, &key);
    check(&sink(), &text, key, &ca.root()).unwrap_err()
}

#[track_caller]
fn assert_only(problems: &[String], expected: &str) {
    assert!(
        matches!(problems, [only] if only.contains(expected)),
        "`{expected}` must be all that is wrong: {problems:#?}"
    );
}

#[test]
fn a_good_certificate_makes_an_authority() {
    let (ca, key) = (Ca::new(), new_key());
    let text = ca.sign(&good(&sink()), &key);
    let root = ca.root();
    let authority = check(&sink(), &text, key, &root).unwrap();
    assert_eq!(authority.roots_pem(), root.certificate_pem());
    // With the root behind it, as some tools write it.
    let key = new_key();
    let text = ca.sign(&good(&sink()), &key) + root.certificate_pem();
    assert!(check(&sink(), &text, key, &root).is_ok());
}

#[test]
fn unsafe_certificates_are_refused_by_line() {
    let stranger = new_key();
    let ca = Ca::new();
    let of_another_key = ca.sign(&good(&sink()), &stranger);
    let problems = check(&sink(), &of_another_key, new_key(), &ca.root()).unwrap_err();
    assert_only(&problems, "another key than the request");

    let other = gateway().to_string();
    let own = sink().to_string();
    type Change = Box<dyn FnOnce(&mut CertificateParams)>;
    let cases: Vec<(&str, Change)> = vec![
        (
            "has no path length",
            Box::new(|its| its.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        (
            "has path length 1",
            Box::new(|its| its.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
        ),
        (
            "has no name constraints",
            Box::new(|its| its.name_constraints = None),
        ),
        (
            "that permit",
            Box::new({
                let other = other.clone();
                move |its| its.name_constraints = permitting(&[other])
            }),
        ),
        (
            "and nothing else",
            Box::new(move |its| its.name_constraints = permitting(&[own, other])),
        ),
        (
            "and nothing else",
            Box::new(|its| its.name_constraints = permitting(&["ferry.internal".into()])),
        ),
        (
            "lacks `keyCertSign`",
            Box::new(|its| its.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
        ),
        (
            "expired at",
            Box::new(|its| its.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        ),
        (
            "is valid from",
            Box::new(|its| {
                its.not_before = rcgen::date_time_ymd(2090, 1, 1);
                its.not_after = rcgen::date_time_ymd(2091, 1, 1);
            }),
        ),
    ];
    for (expected, change) in cases {
        assert_only(&refused(change), expected);
    }
    let problems = refused(|its| its.is_ca = IsCa::ExplicitNoCa);
    assert!(
        problems.iter().any(|line| line.contains("`CA:TRUE`")),
        "{problems:#?}"
    );
}

#[test]
fn foreign_or_intermediate_signer_is_refused() {
    let (ca, key) = (Ca::new(), new_key());
    let mut other = Ca::new();
    let text = other.sign(&good(&sink()), &key);
    let problems = check(&sink(), &text, key, &ca.root()).unwrap_err();
    assert_only(&problems, "is not signed by the key of `root.crt`");

    let key = new_key();
    let name = &mut other.parameters.distinguished_name;
    name.push(DnType::CommonName, "their intermediate");
    let text = other.sign(&good(&sink()), &key);
    let problems = check(&sink(), &text, key, &ca.root()).unwrap_err();
    assert_only(&problems, "CN=their intermediate");
    assert!(problems[0].contains("nothing between"), "{problems:#?}");

    let key = new_key();
    let text = ca.sign(&good(&sink()), &key) + &other.pem();
    let problems = check(&sink(), &text, key, &ca.root()).unwrap_err();
    assert_only(&problems, "nothing between");
}

#[test]
fn what_is_no_certificate_is_refused() {
    let ca = Ca::new();
    for text in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let problems = check(&sink(), text, new_key(), &ca.root()).unwrap_err();
        assert!(problems[0].contains("certificate"), "{problems:#?}");
        assert!(root(text).is_err());
    }
}

#[test]
fn a_root_must_be_one() {
    let with = |change: fn(&mut CertificateParams)| {
        let mut ca = Ca::new();
        change(&mut ca.parameters);
        root(&ca.pem()).unwrap_err()
    };
    assert_only(
        &with(|its| its.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        "path length 0",
    );
    assert_only(
        &with(|its| its.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        "expired at",
    );
    assert_only(&with(|its| its.is_ca = IsCa::ExplicitNoCa), "`CA:TRUE`");
    let mut below = CertificateParams::default();
    below.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    below.distinguished_name = rcgen::DistinguishedName::new();
    below.distinguished_name.push(DnType::CommonName, "below");
    let text = Ca::new().sign(&below, &new_key());
    assert_only(&root(&text).unwrap_err(), "is no root");
}

#[test]
fn folder_is_read_or_every_problem_named() {
    let folder = tempfile::tempdir().unwrap();
    let (identity, from) = (folder.path().join("identity"), folder.path().join("in"));
    fs::create_dir(&from).unwrap();
    Root::create("ours").unwrap().save(&identity).unwrap();
    let (sink, gateway) = (sink(), gateway());
    let names = [&gateway, &sink];
    let problems = |names: &[&WorkloadName]| {
        let error = Signed::read(&identity, &from, names).unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2, "{error:#}");
        error.to_string()
    };
    let text = problems(&names);
    assert!(text.contains("`root.crt` is missing"), "{text}");
    assert!(
        text.contains("`international-ferry.cluster-b.sink.crt` is missing"),
        "{text}"
    );

    let ca = Ca::new();
    fs::write(from.join(IMPORT_ROOT), ca.pem()).unwrap();
    fs::write(from.join(certificate_file(&sink)), "").unwrap();
    let text = problems(&names);
    assert!(text.contains("no request of this pod is open"), "{text}");

    for name in names {
        let asked = ask(&identity, name).unwrap();
        assert!(asked.contains("CERTIFICATE REQUEST"), "{asked}");
        let key = key_of(&identity, name).unwrap().unwrap();
        fs::write(
            from.join(certificate_file(name)),
            ca.sign(&good(name), &key),
        )
        .unwrap();
    }
    let signed = Signed::read(&identity, &from, &names).unwrap();
    assert_eq!(signed.authorities.len(), 2);
    assert!(!signed.root.has_key());
    assert_eq!(
        request_file(&sink),
        "international-ferry.cluster-b.sink.csr"
    );

    // Saved and loaded, it is a root without a key, which signs nothing.
    signed.root.save(&identity).unwrap();
    let error = Root::load(&identity).unwrap().authority(&sink).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("root's key is not in the state folder")
    );
    // Under the root of now, one certificate will do.
    fs::remove_file(from.join(certificate_file(&gateway))).unwrap();
    let signed = Signed::read(&identity, &from, &names).unwrap();
    assert_eq!(signed.authorities.keys().collect::<Vec<_>>(), [&sink]);
    let home = folder.path().join("authority");
    signed.authorities[&sink].save(&home).unwrap();
    assert!(home.join(AUTHORITY_CERTIFICATE).exists());
}
