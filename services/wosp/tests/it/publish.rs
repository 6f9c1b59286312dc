//! Published files: content, modes, and atomic replacement.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use messages::{
    env::{IDENTITY_FILE, ROOTS_FILE},
    signature::Signer,
};
use wosp::{
    authority::Authority,
    mint::{Identity, mint},
    publish::Publisher,
};

use crate::support::{self, HOUR, Request, resource, root, sink};

fn identity(folder: &Path) -> Identity {
    let authority = Authority::read(folder, &sink()).unwrap();
    mint(
        &authority,
        &sink(),
        Duration::from_secs(60),
        Timestamp::now(),
    )
    .unwrap()
}

fn authority_folder() -> tempfile::TempDir {
    support::authority_folder(&root(10 * HOUR), &Request::of(&sink(), HOUR))
}

#[test]
fn files_are_read_by_envoy_and_the_app() {
    let authority = authority_folder();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("made/by/wosp");
    let identity = identity(authority.path());
    let mut publisher = Publisher::new(&folder);
    publisher.identity(&identity).unwrap();
    publisher.roots("roots as PEM").unwrap();

    let secret = resource(&folder.join(IDENTITY_FILE));
    assert_eq!(
        secret["@type"],
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    );
    assert_eq!(secret["name"], "identity");
    let tls = &secret["tls_certificate"];
    assert_eq!(
        tls["certificate_chain"]["inline_string"],
        identity.chain_pem
    );
    assert_eq!(tls["private_key"]["inline_string"], identity.key_pem);
    let roots = resource(&folder.join(ROOTS_FILE));
    assert_eq!(roots["name"], "roots");
    assert_eq!(
        roots["validation_context"]["trusted_ca"]["inline_string"],
        "roots as PEM"
    );
    let text = std::fs::read_to_string(folder.join(IDENTITY_FILE)).unwrap();
    assert_eq!(*Signer::from_identity_file(&text).unwrap().name(), sink());

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .inspect(|path| assert_eq!(mode(path), 0o600, "{}", path.display()))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, [IDENTITY_FILE, ROOTS_FILE], "nothing else is left");
}

#[test]
fn readers_never_see_half_a_pair() {
    let authority = authority_folder();
    let home = tempfile::tempdir().unwrap();
    let publisher = Publisher::new(home.path());
    publisher.identity(&identity(authority.path())).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) || reads == 0 {
                let text = std::fs::read_to_string(home.path().join(IDENTITY_FILE)).unwrap();
                // The signer refuses a key that does not belong to its certificate.
                Signer::from_identity_file(&text).unwrap();
                reads += 1;
            }
        });
        for _ in 0..100 {
            publisher.identity(&identity(authority.path())).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn leftover_of_a_killed_agent_is_replaced() {
    let authority = authority_folder();
    let home = tempfile::tempdir().unwrap();
    let left = home.path().join(format!(".{IDENTITY_FILE}.new"));
    std::fs::write(&left, "half").unwrap();
    std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o644)).unwrap();
    Publisher::new(home.path())
        .identity(&identity(authority.path()))
        .unwrap();
    let path = home.path().join(IDENTITY_FILE);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!left.exists());
}

#[test]
fn roots_are_rewritten_only_when_they_changed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(ROOTS_FILE);
    let mut publisher = Publisher::new(home.path());
    publisher.roots("one").unwrap();
    std::fs::remove_file(&path).unwrap();
    publisher.roots("one").unwrap();
    assert!(!path.exists(), "the same roots are not written again");
    publisher.roots("two").unwrap();
    assert!(path.exists());
}

#[test]
fn unwritable_folder_is_reported() {
    let authority = authority_folder();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Publisher::new(&file)
        .identity(&identity(authority.path()))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot write `"), "{error}");
    assert!(error.contains("give the pod a writable volume"), "{error}");
}
