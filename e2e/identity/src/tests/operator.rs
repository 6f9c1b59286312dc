//! Keys and certificates that an operator puts where Ferry's own were.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PublicKeyData as _,
};
use rstest::rstest;

use super::*;

/// A CA of somebody's own.
struct Ca {
    key: KeyPair,
    parameters: CertificateParams,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        Self { key, parameters }
    }

    fn pem(&self) -> String {
        self.parameters.self_signed(&self.key).unwrap().pem()
    }

    fn sign(&self, parameters: &CertificateParams, key: &KeyPair) -> String {
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        parameters.signed_by(key, &issuer).unwrap().pem()
    }
}

fn pinhole() -> CertificateParams {
    CertificateParams::new(vec![format!("pinhole.{}", sink())]).unwrap()
}

/// The same key as `openssl ecparam -genkey` writes it, which `ring` has inside its PKCS #8.
fn sec1(key: &KeyPair) -> String {
    let der = key.serialize_der();
    let inner = der
        .windows(4)
        .position(|bytes| bytes == [0x04, 0x6d, 0x30, 0x6b])
        .unwrap()
        + 2;
    let text = BASE64_STANDARD.encode(&der[inner..]);
    format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n")
}

/// A folder with what an operator has put there, and the root of the environment around it.
struct Place {
    folder: tempfile::TempDir,
    root: Root,
    ca: Ca,
    key: KeyPair,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            root: Root::create("test").unwrap(),
            ca: Ca::new("their CA"),
            key: new_key().unwrap(),
        };
        place
            .root
            .server(&sink())
            .unwrap()
            .save(place.home())
            .unwrap();
        place.put("tls.key", &place.key.serialize_pem());
        place.put("tls.crt", &place.ca.sign(&pinhole(), &place.key));
        place.put("ca.crt", &place.ca.pem());
        place
    }

    fn home(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn put(&self, file: &str, text: &str) {
        files::write_private(self.home(), file, text).unwrap();
    }

    fn certificate(&self, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut parameters = pinhole();
        change(&mut parameters);
        self.ca.sign(&parameters, &self.key)
    }

    fn keep(&self, clients: Clients) -> anyhow::Result<Server> {
        Server::keep(&self.root, &sink(), self.home(), clients)
    }

    /// What is said to the operator: one line of cause, and what to do.
    #[track_caller]
    fn refusal(&self) -> (String, String) {
        let before = ["tls.key", "tls.crt", "ca.crt"]
            .map(|file| std::fs::read(self.home().join(file)).unwrap());
        let error = self.keep(Clients::Commands).unwrap_err();
        let failure = Failure::of(&error).unwrap();
        assert_eq!(Failure::exit_code(&error), 2, "{error:#}");
        assert!(!failure.to_string().contains('\n'), "{failure}");
        let hint = failure.next_step().unwrap().to_owned();
        assert!(
            !hint.contains("down"),
            "nothing is to be taken down: {hint}"
        );
        let after = ["tls.key", "tls.crt", "ca.crt"]
            .map(|file| std::fs::read(self.home().join(file)).unwrap());
        assert_eq!(after, before, "what an operator has put there stays");
        (failure.to_string(), hint)
    }
}

#[test]
fn keys_of_every_form_become_pkcs8() {
    let place = Place::new();
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let pkcs8 = place.key.serialize_pem();
    let certificate = files::read(place.home(), "tls.crt").unwrap();
    for text in [
        pkcs8.clone(),
        sec1(&place.key),
        format!("{parameters}{}", sec1(&place.key)),
        sec1(&place.key).replace('\n', "\r\n"),
        format!("\u{feff}{}", sec1(&place.key)),
        format!("{}{certificate}", sec1(&place.key)),
    ] {
        place.put("tls.key", &text);
        let server = place.keep(Clients::Commands).unwrap();
        let again = KeyPair::from_pem(server.key_pem()).unwrap();
        assert_eq!(
            again.subject_public_key_info(),
            place.key.subject_public_key_info(),
            "{text}"
        );
        assert_eq!(
            files::read(place.home(), "tls.key").unwrap(),
            text.trim_start_matches('\u{feff}')
        );
    }
    // And certificates as editors of other systems leave them.
    place.put("tls.key", &pkcs8);
    for text in [
        certificate.replace('\n', "\r\n"),
        format!("\u{feff}{certificate}"),
        format!("subject=CN = sink\n\n{certificate}"),
        format!("{certificate}{}", place.ca.pem()),
    ] {
        place.put("tls.crt", &text);
        let server = place.keep(Clients::Commands).unwrap();
        assert!(
            server
                .certificate_pem()
                .starts_with("-----BEGIN CERTIFICATE-----\n")
        );
        assert!(!server.certificate_pem().contains(['\r', '\u{feff}']));
    }
}

#[test]
fn intermediate_in_file_completes_chain() {
    let place = Place::new();
    let between = Ca::new("their intermediate");
    let signed = place.ca.sign(&between.parameters, &between.key);
    let leaf = between.sign(&pinhole(), &place.key);
    place.put("tls.crt", &format!("{leaf}{signed}"));
    place.keep(Clients::Commands).unwrap();

    place.put("tls.crt", &leaf);
    let (cause, _) = place.refusal();
    assert!(
        cause.ends_with(
            "tls.crt` was issued by `CN=their intermediate`, and nothing in `ca.crt` leads there"
        ),
        "{cause}"
    );
    place.put("tls.crt", &format!("{signed}{leaf}"));
    let (cause, hint) = place.refusal();
    assert!(
        cause.starts_with("the certificate of the key is number 2 in `"),
        "{cause}"
    );
    assert!(hint.starts_with("put it first"), "{hint}");
}

#[test]
fn key_of_another_certificate_is_refused() {
    let place = Place::new();
    let certificate = files::read(place.home(), "tls.crt").unwrap();
    let other = new_key().unwrap();
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for (text, cause, hint) in [
        (
            other.serialize_pem(),
            "is not the private key of the certificate in `tls.crt`",
            "private key of the certificate",
        ),
        (
            sec1(&other),
            "is not the private key of the certificate in `tls.crt`",
            "private key of the certificate",
        ),
        (
            locked.to_owned(),
            "locked by a passphrase",
            "`openssl pkcs8 -topk8 -nocrypt -in ",
        ),
        (
            old.to_owned(),
            "locked by a passphrase",
            "`openssl pkcs8 -topk8 -nocrypt -in ",
        ),
        (
            certificate,
            "holds a certificate and no private key",
            "swapped",
        ),
        (String::new(), "holds no private key", "in PEM"),
    ] {
        place.put("tls.key", &text);
        let (said, next) = place.refusal();
        assert!(said.contains("tls.key`") && said.contains(cause), "{said}");
        assert!(next.contains(hint), "{next}");
    }
    place.put("tls.key", &place.key.serialize_pem());
    place.put("tls.crt", &place.key.serialize_pem());
    let (said, next) = place.refusal();
    assert!(
        said.ends_with("tls.crt` contains a private key instead of a certificate"),
        "{said}"
    );
    assert!(next.contains("swapped"), "{next}");
    std::fs::write(place.home().join("tls.crt"), [0x30, 0x82, 0xff, 0xfe]).unwrap();
    let (said, next) = place.refusal();
    assert!(said.ends_with("tls.crt` is not PEM"), "{said}");
    assert!(next.contains("openssl x509 -inform DER"), "{next}");
}

#[rstest]
#[case::expired(|its: &mut CertificateParams| its.not_after = rcgen::date_time_ymd(2020, 1, 1), "expired at 2020-01-01")]
#[case::of_the_future(|its: &mut CertificateParams| its.not_before = rcgen::date_time_ymd(2090, 1, 1), "is valid from 2090-01-01")]
#[case::for_another_name(|its: &mut CertificateParams| *its = CertificateParams::new(vec!["lb.example".into()]).unwrap(), "is for `lb.example`, not for `pinhole.sink.cluster-b.")]
#[case::for_the_workload(|its: &mut CertificateParams| *its = CertificateParams::new(vec![sink().to_string()]).unwrap(), "not for `pinhole.sink.cluster-b.")]
#[case::for_no_name(|its: &mut CertificateParams| its.subject_alt_names.clear(), "is for no DNS name")]
#[case::an_authoritys(|its: &mut CertificateParams| its.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "is an authority's certificate")]
#[case::a_clients(|its: &mut CertificateParams| its.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth], "lacks `serverAuth`")]
fn a_certificate_that_no_client_takes_is_refused(
    #[case] change: fn(&mut CertificateParams),
    #[case] expected: &str,
) {
    let place = Place::new();
    place.put("tls.crt", &place.certificate(change));
    let (cause, hint) = place.refusal();
    assert!(cause.contains(expected), "{cause}");
    assert!(hint.contains("`pinhole.sink.cluster-b."), "{hint}");
}

#[test]
fn a_wildcard_is_a_name() {
    let place = Place::new();
    let any = CertificateParams::new(vec![format!("*.{}", sink())]).unwrap();
    place.put("tls.crt", &place.certificate(|its| *its = any));
    place.keep(Clients::Commands).unwrap();
}

/// An operator whose own clients know the CA need not tell Ferry's commands, where none of them asks.
#[test]
fn unknown_ca_concerns_commands_alone() {
    let place = Place::new();
    place.put("ca.crt", place.root.certificate_pem());
    place.keep(Clients::Others).unwrap();
    let (cause, hint) = place.refusal();
    assert!(cause.contains("was issued by `CN=their CA`"), "{cause}");
    assert!(hint.contains("`ca.crt`"), "{hint}");
    assert!(
        !Server::is_due(&place.root, place.home()).unwrap(),
        "it is not Ferry's to replace"
    );
    // One that was told of another CA was told the wrong one.
    place.put("ca.crt", &Ca::new("another").pem());
    place.keep(Clients::Others).unwrap_err();
}

/// The key came first; its certificate is still to come.
#[test]
fn operator_key_beside_own_certificate_is_kept() {
    let place = Place::new();
    place
        .root
        .server(&sink())
        .unwrap()
        .save(place.home())
        .unwrap();
    place.put("tls.key", &sec1(&place.key));
    let (cause, _) = place.refusal();
    assert!(cause.contains("is not the private key"), "{cause}");
}

#[test]
fn key_kind_unknown_to_envoy_is_refused() {
    let mut place = Place::new();
    place.key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    place.put("tls.key", &place.key.serialize_pem());
    place.put("tls.crt", &place.certificate(|_| {}));
    let (cause, _) = place.refusal();
    assert!(cause.contains("ECDSA P-256, ECDSA P-384 or RSA"), "{cause}");
}

#[test]
fn operator_authority_must_match_its_pod() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let root = Root::create("test").unwrap();
    let own = root.authority(&sink()).unwrap();
    own.save(home).unwrap();
    Authority::load(home)
        .unwrap()
        .speaks_for(&sink(), home)
        .unwrap();
    // SEC1, as cert-manager writes it, in a file of its own.
    let sec1 = sec1(&KeyPair::from_pem(&own.key_pem()).unwrap());
    std::fs::remove_file(home.join("tls.key")).unwrap();
    files::write_private(home, "tls.key", &sec1).unwrap();
    let read = Authority::load(home).unwrap();
    assert!(read.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
    read.speaks_for(&sink(), home).unwrap();

    files::write_private(home, "tls.key", &new_key().unwrap().serialize_pem()).unwrap();
    let error = Authority::load(home).unwrap_err();
    assert!(
        error.to_string().contains("is not the private key"),
        "{error}"
    );

    let other = root.authority(&gateway()).unwrap();
    let error = other.speaks_for(&sink(), home).unwrap_err();
    assert_eq!(Failure::exit_code(&error), 2, "{error:#}");
    let stranger = Root::create("other").unwrap().authority(&sink()).unwrap();
    let stranger = stranger.trusting(root.certificate_pem().into());
    assert!(stranger.speaks_for(&sink(), home).is_err());
}
