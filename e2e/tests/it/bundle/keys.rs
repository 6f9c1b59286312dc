//! What `openssl` writes unless told otherwise, brought by an operator to the pinhole of a bundle's pod.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use blueprint::{Target, failure::Failure};
use e2e::testing::program;
use harness::ops::bundle::{self, Request, SECRETS_FILE};

use super::fake::{request, shipped};

const NAME: &str = "pinhole.sink.cluster-b.international-ferry.ferry.internal";

struct Operator {
    folder: tempfile::TempDir,
    request: Request,
}

impl Operator {
    /// With a bundle that Ferry has made all keys of.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let request = request(
            shipped("international-ferry"),
            Target::Generic,
            folder.path().join("out"),
        );
        bundle::write(&request).unwrap();
        Self { folder, request }
    }

    fn pinhole(&self) -> PathBuf {
        let pods = self.folder.path().join("out.identity/pods");
        pods.join("international-ferry.cluster-b.sink/pinhole")
    }

    fn openssl(&self, line: &str) {
        let done = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "openssl {line}: {said}");
    }

    /// A CA of the operator's, and a certificate of it for `key`, a file in the folder.
    fn certify(&self, key: &str) {
        self.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=theirs -days 30");
        self.openssl(&format!("req -new -key {key} -out tls.csr -subj /CN=sink"));
        fs::write(
            self.folder.path().join("names"),
            format!("subjectAltName=DNS:{NAME}\n"),
        )
        .unwrap();
        self.openssl(
            "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -days 20 -extfile names -out tls.crt",
        );
    }

    fn put(&self, from: &str, file: &str) {
        let to = self.pinhole().join(file);
        fs::copy(self.folder.path().join(from), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn secrets(&self) -> String {
        fs::read_to_string(self.folder.path().join("out/sink").join(SECRETS_FILE)).unwrap()
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    lines.map(str::to_owned).collect()
}

#[test]
fn what_openssl_writes_is_taken() {
    if program(&["openssl"], "keys as openssl writes them")
        .unwrap()
        .is_none()
    {
        return;
    }
    for make in [
        "ecparam -name prime256v1 -genkey -noout -out tls.key",
        "ecparam -name prime256v1 -genkey -out tls.key",
        "ecparam -name secp384r1 -genkey -noout -out tls.key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out tls.key",
        "genrsa -traditional -out tls.key 2048",
        "genrsa -out tls.key 3072",
    ] {
        let operator = Operator::new();
        operator.openssl(make);
        operator.certify("tls.key");
        operator.put("tls.key", "tls.key");
        operator.put("tls.crt", "tls.crt");
        // Without the CA's certificate, which nothing of a bundle reads, and with it.
        bundle::write(&operator.request).unwrap_or_else(|error| panic!("{make}: {error:#}"));
        operator.put("ca.crt", "ca.crt");
        bundle::write(&operator.request).unwrap_or_else(|error| panic!("{make}: {error:#}"));

        operator.openssl("pkcs8 -topk8 -nocrypt -in tls.key -out pkcs8.key");
        let secrets = operator.secrets();
        let expected = lines(&operator.folder.path().join("pkcs8.key"));
        assert!(
            secrets.contains("BEGIN PRIVATE KEY") && !secrets.contains("EC PRIVATE KEY"),
            "{make}: the pod must get PKCS #8"
        );
        // The first line of a key of an elliptic curve says its kind, the second has of its number.
        assert!(
            secrets.contains(&expected[1]) || secrets.contains(&expected[0]),
            "{make}: it must be that key"
        );
        let certificate = lines(&operator.folder.path().join("tls.crt"));
        assert!(
            secrets.contains(&certificate[2]),
            "{make}: with its certificate"
        );
    }
}

#[test]
fn unworkable_bundle_is_refused_before_writing() {
    if program(&["openssl"], "keys as openssl writes them")
        .unwrap()
        .is_none()
    {
        return;
    }
    let operator = Operator::new();
    operator.openssl("ecparam -name prime256v1 -genkey -noout -out tls.key");
    operator.certify("tls.key");
    operator.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key");
    operator.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:x -out locked.key");
    operator.openssl("ec -in tls.key -aes256 -passout pass:x -out old.key");
    operator.openssl("genpkey -algorithm ED25519 -out ed25519.key");
    operator.openssl("pkey -in tls.key -outform DER -out der.key");
    let before = operator.secrets();
    for file in ["tls.crt", "ca.crt"] {
        operator.put(file, file);
    }
    for (key, cause, hint) in [
        (
            "other.key",
            "is not the private key of the certificate",
            "in PEM",
        ),
        (
            "locked.key",
            "locked by a passphrase",
            "`openssl pkcs8 -topk8 -nocrypt -in ",
        ),
        (
            "old.key",
            "locked by a passphrase",
            "`openssl pkcs8 -topk8 -nocrypt -in ",
        ),
        (
            "ed25519.key",
            "is not the private key of the certificate",
            "in PEM",
        ),
        ("der.key", "is not PEM", "openssl pkey -inform DER"),
        (
            "tls.crt",
            "holds a certificate and no private key",
            "swapped",
        ),
    ] {
        operator.put(key, "tls.key");
        let error = bundle::write(&operator.request).unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2, "{key}: {error:#}");
        assert!(error.to_string().contains(cause), "{key}: {error:#}");
        let next = Failure::of(&error).and_then(Failure::next_step);
        assert!(
            next.is_some_and(|next| next.contains(hint)),
            "{key}: {next:?}"
        );
        assert_eq!(
            operator.secrets(),
            before,
            "{key}: the bundle must be as it was"
        );
    }
    operator.put("tls.key", "tls.key");
    bundle::write(&operator.request).unwrap();
    assert_ne!(operator.secrets(), before);
}
