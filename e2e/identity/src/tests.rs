mod operator;

use std::os::unix::fs::PermissionsExt as _;

use blueprint::failure::Failure;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring::ECDSA_P256_SHA256};

use super::*;

fn name(text: &str) -> messages::WorkloadName {
    format!("{text}.ferry.internal").parse().unwrap()
}

fn gateway() -> messages::WorkloadName {
    name("gateway.cluster-a.international-ferry")
}

fn sink() -> messages::WorkloadName {
    name("sink.cluster-b.international-ferry")
}

/// What a peer that pins `expected` says of `leaf`: `Ok`, or the verifier's error.
fn knock(root: &Root, leaf: &Leaf, expected: &messages::WorkloadName) -> Result<(), webpki::Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(leaf.certificate_chain_pem.as_bytes())
        .map(Result::unwrap)
        .collect();
    let anchors = [anchor_from_trusted_cert(root.certificate_der()).unwrap()];
    let end = EndEntityCert::try_from(&chain[0]).unwrap();
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        end.verify_for_usage(
            &[ECDSA_P256_SHA256],
            &anchors,
            &chain[1..],
            UnixTime::now(),
            usage,
            None,
            None,
        )?;
    }
    end.verify_is_valid_for_subject_name(&ServerName::try_from(expected.to_string()).unwrap())
}

#[test]
fn pod_leaf_is_accepted_as_server_and_client() {
    let root = Root::create("test").unwrap();
    for pod in [gateway(), sink()] {
        let leaf = root.authority(&pod).unwrap().leaf(&LeafRequest::of(&pod));
        assert_eq!(knock(&root, &leaf.unwrap(), &pod), Ok(()));
    }
}

#[test]
fn the_longest_names_fit() {
    let label = "x".repeat(63);
    let pod = messages::WorkloadName::new(&label, &label, &label).unwrap();
    let root = Root::create(&"x".repeat(300)).unwrap();
    let leaf = root.authority(&pod).unwrap().leaf(&LeafRequest::of(&pod));
    assert_eq!(knock(&root, &leaf.unwrap(), &pod), Ok(()));
}

#[test]
fn an_authority_cannot_speak_for_another_pod() {
    let root = Root::create("test").unwrap();
    let authority = root.authority(&gateway()).unwrap();
    let other_name = authority.leaf(&LeafRequest::of(&sink())).unwrap();
    assert_eq!(
        knock(&root, &other_name, &sink()),
        Err(webpki::Error::NameConstraintViolation)
    );
    let mut both = LeafRequest::of(&gateway());
    both.dns_names.push(sink().to_string());
    let both = authority.leaf(&both).unwrap();
    assert_eq!(
        knock(&root, &both, &sink()),
        Err(webpki::Error::NameConstraintViolation)
    );
    // A URI cannot be constrained; that is why peers pin the DNS name.
    let mut foreign_uri = LeafRequest::of(&gateway());
    foreign_uri.uris = vec![sink().spiffe_id()];
    let foreign_uri = authority.leaf(&foreign_uri).unwrap();
    assert!(matches!(
        knock(&root, &foreign_uri, &sink()),
        Err(webpki::Error::CertNotValidForName(_))
    ));
}

#[test]
fn an_authority_cannot_make_another_authority() {
    let root = Root::create("test").unwrap();
    let mut request = LeafRequest::of(&gateway());
    request.common_name = Some("below".into());
    request.kind = CertificateKind::Authority;
    request.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let below = root
        .authority(&gateway())
        .unwrap()
        .subordinate(&request)
        .unwrap();
    let leaf = below.leaf(&LeafRequest::of(&gateway())).unwrap();
    assert_eq!(
        knock(&root, &leaf, &gateway()),
        Err(webpki::Error::PathLenConstraintViolated)
    );
    // It is the path length and nothing else: with another one the same chain is accepted.
    let key = new_key().unwrap();
    let validity = Validity::lasting(AUTHORITY_LIFETIME);
    let mut allowing = parameters(authority::subject(&gateway()), validity).unwrap();
    allowing.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
    allowing.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let allowing = allowing.signed_by(&key, &root.issuer().unwrap()).unwrap();
    let (der, pem) = (allowing.der().clone(), allowing.pem());
    let allowing = Authority::of_parts(key, der, pem, String::new());
    let below = allowing.subordinate(&request).unwrap();
    let leaf = below.leaf(&LeafRequest::of(&gateway())).unwrap();
    assert_eq!(knock(&root, &leaf, &gateway()), Ok(()));
}

#[test]
fn what_has_expired_is_refused() {
    let root = Root::create("test").unwrap();
    let past = Validity {
        not_before: "2020-01-01T00:00:00Z".parse().unwrap(),
        not_after: "2020-02-01T00:00:00Z".parse().unwrap(),
    };
    let mut request = LeafRequest::of(&sink());
    request.validity = past;
    let leaf = root.authority(&sink()).unwrap().leaf(&request).unwrap();
    assert!(matches!(
        knock(&root, &leaf, &sink()),
        Err(webpki::Error::CertExpired { .. })
    ));
    let authority = root
        .authority_as_asked(&AuthorityRequest::of(&sink(), past))
        .unwrap();
    let leaf = authority.leaf(&LeafRequest::of(&sink())).unwrap();
    assert!(matches!(
        knock(&root, &leaf, &sink()),
        Err(webpki::Error::CertExpired { .. })
    ));
}

#[test]
fn another_root_is_refused() {
    let root = Root::create("test").unwrap();
    let stranger = Root::create("test").unwrap();
    let leaf = stranger.authority(&sink()).unwrap();
    let leaf = leaf.leaf(&LeafRequest::of(&sink())).unwrap();
    assert!(knock(&root, &leaf, &sink()).is_err());
    assert_eq!(knock(&stranger, &leaf, &sink()), Ok(()));
}

#[test]
fn authority_certificate_matches_design() {
    let root = Root::create("test").unwrap();
    let authority = root.authority(&sink()).unwrap();
    let der = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let basic = certificate.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let names = certificate.name_constraints().unwrap().unwrap();
    assert!(names.critical, "the constraint must bind every reader");
    let permitted: Vec<_> = names.value.permitted_subtrees.as_ref().unwrap().to_vec();
    assert_eq!(permitted.len(), 1);
    assert!(
        matches!(permitted[0].base, x509_parser::extensions::GeneralName::DNSName(dns) if dns == sink().to_string())
    );
    assert_eq!(
        certificate.subject().to_string(),
        "O=international-ferry, OU=cluster-b, CN=sink"
    );
    let left = certificate.validity().not_after.timestamp() - Timestamp::now().as_second();
    let days = 24 * 60 * 60;
    assert!((89 * days..=90 * days).contains(&left), "{left} s");
}

#[test]
fn serial_numbers_do_not_repeat() {
    let root = Root::create("test").unwrap();
    let serial = || {
        let authority = root.authority(&sink()).unwrap();
        let der = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        certificate.raw_serial().to_vec()
    };
    let (first, second) = (serial(), serial());
    assert_ne!(first, second);
    assert_eq!((first.len(), second.len()), (16, 16));
}

#[test]
fn what_is_saved_is_loaded_and_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("identity");
    Root::create("test").unwrap().save(&home).unwrap();
    let root = Root::load(&home).unwrap();
    let pod = home.join("sink");
    root.authority(&sink()).unwrap().save(&pod).unwrap();
    let leaf = Authority::load(&pod)
        .unwrap()
        .leaf(&LeafRequest::of(&sink()));
    assert_eq!(knock(&root, &leaf.unwrap(), &sink()), Ok(()));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&pod) & 0o777, 0o700);
    assert_eq!(mode(&pod.join("..data")) & 0o777, 0o700);
    for file in [AUTHORITY_CERTIFICATE, AUTHORITY_KEY, ROOTS] {
        assert_eq!(mode(&pod.join(file)) & 0o777, 0o600);
    }
}

/// Folders with one version of files that belong together.
fn versions(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("..v")).count()
}

#[test]
fn save_replaces_all_and_leaves_no_old_key() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    // As it was laid out once: plain files.
    let before = Root::create("test").unwrap().authority(&sink()).unwrap();
    std::fs::write(home.join(AUTHORITY_KEY), before.key_pem()).unwrap();
    for _ in 0..3 {
        let root = Root::create("test").unwrap();
        let authority = root.authority(&sink()).unwrap();
        authority.save(home).unwrap();
        let loaded = Authority::load(home).unwrap();
        assert_eq!(loaded.report().unwrap(), authority.report().unwrap());
        assert_eq!(loaded.key_pem(), authority.key_pem());
        assert_eq!(loaded.roots_pem(), root.certificate_pem());
        assert_eq!(versions(home), 1, "the key of before must be gone");
        assert!(home.join(AUTHORITY_KEY).is_symlink());
    }
}

#[test]
fn one_root_follows_another_whole() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("identity");
    let old = Root::create("old").unwrap();
    old.save(&home).unwrap();
    assert!(Succession::pending(&home).unwrap().is_none());
    let new = Root::create("new").unwrap();
    let (old_der, new_der) = (old.certificate_der().clone(), new.certificate_der().clone());
    let authorities = [(sink(), new.authority(&sink()).unwrap())].into();
    Succession::begin(&home, new, &authorities).unwrap();

    let begun = Succession::pending(&home).unwrap().unwrap();
    assert_eq!(*begun.root().certificate_der(), new_der);
    assert_eq!(
        begun.authority(&sink()).unwrap().report().unwrap(),
        authorities[&sink()].report().unwrap()
    );
    assert!(begun.authority(&gateway()).is_err());
    assert_eq!(trusted_roots(&home).unwrap().len(), 2);

    // Twice, as by a command that was killed after the first time.
    for _ in 0..2 {
        begun.promote().unwrap();
        assert_eq!(*Root::load(&home).unwrap().certificate_der(), new_der);
        assert_eq!(trusted_roots(&home).unwrap().len(), 2);
    }
    begun.finish().unwrap();
    assert!(Succession::pending(&home).unwrap().is_none());
    let trusted = trusted_roots(&home).unwrap();
    assert!(trusted.contains(&old_der) && trusted.contains(&new_der));
    let retired: Vec<_> = std::fs::read_dir(home.join("retired")).unwrap().collect();
    assert_eq!(retired.len(), 1, "a certificate, and no key");
}

#[track_caller]
fn assert_refused(folder: &std::path::Path, expected: &str) {
    let error = Root::load(folder).unwrap_err();
    assert!(
        error.to_string().contains(expected),
        "`{error}` must contain `{expected}`"
    );
    assert!(matches!(Failure::exit_code(&error), 2 | 3), "{error}");
    assert!(
        Failure::of(&error).unwrap().next_step().is_some(),
        "`{error}` must say what to do next"
    );
}

#[test]
fn a_root_that_cannot_be_used_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    assert_refused(home, "cannot read");
    Root::create("one").unwrap().save(home).unwrap();
    let key = home.join(ROOT_KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_refused(home, "other users can access it (mode 0640)");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nnonsense").unwrap();
    assert_refused(home, "holds a private key that cannot be read");
    std::fs::write(&key, new_key().unwrap().serialize_pem()).unwrap();
    assert_refused(
        home,
        "is not the private key of the certificate in `root.crt`",
    );
    std::fs::write(home.join(ROOT_CERTIFICATE), "").unwrap();
    assert_refused(home, "exactly one certificate");
}

#[test]
fn keys_are_not_shown() {
    let root = Root::create("test").unwrap();
    let authority = root.authority(&sink()).unwrap();
    let leaf = authority.leaf(&LeafRequest::of(&sink())).unwrap();
    let server = root.server(&sink()).unwrap();
    let shown = format!("{root:?} {authority:?} {leaf:?} {server:?}");
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn pinhole_certificate_is_for_server_name_alone() {
    let root = Root::create("test").unwrap();
    let server = root.server(&sink()).unwrap();
    let der = CertificateDer::from_pem_slice(server.certificate_pem().as_bytes()).unwrap();
    let end = EndEntityCert::try_from(&der).unwrap();
    let anchors = [anchor_from_trusted_cert(root.certificate_der()).unwrap()];
    let verify = |usage| {
        let algorithms = &[ECDSA_P256_SHA256];
        let now = UnixTime::now();
        end.verify_for_usage(algorithms, &anchors, &[], now, usage, None, None)
            .map(|_| ())
    };
    assert_eq!(verify(KeyUsage::server_auth()), Ok(()));
    assert!(verify(KeyUsage::client_auth()).is_err(), "it is no client");
    let is = |name: String| {
        let name = ServerName::try_from(name).unwrap();
        end.verify_is_valid_for_subject_name(&name).is_ok()
    };
    assert!(is(format!("pinhole.{}", sink())));
    assert!(!is(sink().to_string()), "it is no workload");
    assert!(!is(format!("pinhole.{}", gateway())));
}

#[test]
fn pinhole_certificates_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("pinhole");
    let (root, operator) = (Root::create("test").unwrap(), Root::create("own").unwrap());
    let keep = || Server::keep(&root, &sink(), &home, Clients::Commands).unwrap();
    let first = keep();
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        let mode = std::fs::metadata(home.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(keep().certificate_pem(), first.certificate_pem());

    let own = operator.server(&sink()).unwrap();
    own.save(&home).unwrap();
    assert_eq!(keep().certificate_pem(), own.certificate_pem());
    let is_of = |root: &Root| Server::is_of(&home, &[root.certificate_der().clone()]).unwrap();
    assert!(is_of(&operator) && !is_of(&root));
    assert!(!Server::is_due(&root, &home).unwrap());
}

#[test]
fn mismatched_pinhole_pair_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let root = Root::create("test").unwrap();
    let first = Server::keep(&root, &sink(), home, Clients::Commands).unwrap();
    assert!(!Server::is_due(&root, home).unwrap());
    // What a command leaves that is killed between the two.
    let second = root.server(&sink()).unwrap();
    files::write_private(home, "tls.key", second.key_pem()).unwrap();
    assert!(Server::is_due(&root, home).unwrap());
    let third = Server::keep(&root, &sink(), home, Clients::Commands).unwrap();
    assert_ne!(third.certificate_pem(), first.certificate_pem());
    assert!(!Server::is_due(&root, home).unwrap());
}

#[test]
fn without_root_key_no_pinhole_pair_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let root = Root::create("test").unwrap();
    let (der, pem) = (root.certificate_der().clone(), root.certificate_pem());
    let keyless = Root::without_key(der, pem.to_owned()).unwrap();
    let error = Server::keep(&keyless, &sink(), home, Clients::Commands).unwrap_err();
    assert_eq!(Failure::exit_code(&error), 2);
    let text = format!("{error:#}");
    assert!(
        text.contains("cannot issue the pinhole's certificate of sink in cluster-b"),
        "{text}"
    );

    let first = Server::keep(&root, &sink(), home, Clients::Commands).unwrap();
    let kept = Server::keep(&keyless, &sink(), home, Clients::Commands).unwrap();
    assert_eq!(kept.certificate_pem(), first.certificate_pem());
    // One that no pod could show is not kept in silence.
    let second = root.server(&sink()).unwrap();
    files::write_private(home, "tls.key", second.key_pem()).unwrap();
    let error = Server::keep(&keyless, &sink(), home, Clients::Commands).unwrap_err();
    assert!(
        error.to_string().contains("is not the private key"),
        "{error}"
    );
}

#[test]
fn pinhole_roots_are_added_once() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let (old, new) = (Root::create("old").unwrap(), Root::create("new").unwrap());
    Server::keep(&old, &sink(), home, Clients::Commands).unwrap();
    for _ in 0..2 {
        Server::trust_too(home, &new).unwrap();
        let trusted = files::certificates(&files::read(home, ROOTS).unwrap());
        assert_eq!(
            trusted,
            [old.certificate_der().clone(), new.certificate_der().clone()]
        );
    }
    new.server(&sink()).unwrap().save(home).unwrap();
    assert_eq!(files::read(home, ROOTS).unwrap(), new.certificate_pem());
}

#[test]
fn tokens_are_long_and_differ() {
    let (first, second) = (token(), token());
    assert_eq!(first.len(), 43);
    assert_ne!(first, second);
}
