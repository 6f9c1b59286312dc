//! `report.html` as a browser reads it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Debian's name of it, and what others call it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The page after a browser has parsed it; `None`, said aloud, where this machine has no browser.
fn parsed(page: &Path) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    for browser in BROWSERS {
        let done = Command::new(browser)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--dump-dom")
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .output();
        match done {
            Ok(done) => {
                assert!(done.status.success(), "{browser}: {done:?}");
                return Some(String::from_utf8(done.stdout).unwrap());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{browser}: {error}"),
        }
    }
    e2e::testing::show("report.html: NOT READ IN A BROWSER, since there is no `chromium`");
    None
}

/// The page of a blueprint of two pods that was proven 5/5.
#[track_caller]
pub(crate) fn assert_proven(page: &Path) {
    let written = std::fs::read_to_string(page).unwrap();
    let read = parsed(page);
    for page in [Some(written), read].into_iter().flatten() {
        for text in [
            r#"<span id="verdict" class="passed">passed</span>"#,
            "5/5 acknowledged",
            "@cluster-a on ",
            "@cluster-b on ",
            "prove fast-international-ferry",
        ] {
            assert!(page.contains(text), "no `{text}` in {page}");
        }
        assert_eq!(page.matches(r#"<td class="hops">"#).count(), 5, "{page}");
        assert!(!page.contains("<script"), "{page}");
    }
}
