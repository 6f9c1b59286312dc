//! `report.html` as a browser reads it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use ::e2e::testing::program;

/// Debian's name of it, and what others call it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The page after a browser has parsed it, where there is one.
fn parsed(page: &Path) -> Option<String> {
    let browser = program(&BROWSERS, "`report.html` in a browser").unwrap()?;
    let profile = tempfile::tempdir().unwrap();
    let done = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
        .args(["--no-first-run", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    Some(String::from_utf8(done.stdout).unwrap())
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
