//! Whether a file was replaced, by the hash of its content.

use std::{fs, path::Path};

use ring::digest::{SHA256, digest};

/// SHA-256 of a file's content; another content is another hash.
///
/// Times and inode numbers are no evidence: a clock may be set back, an inode may be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Returns the hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, content).as_ref());
        Self(hash)
    }

    /// Returns the hash of the file at `path`, or `None` if it cannot be read.
    pub fn of_file(path: &Path) -> Option<Self> {
        fs::read(path).ok().map(|content| Self::of(&content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_follows_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(ContentHash::of_file(&path), None);

        fs::write(&path, "one").unwrap();
        let one = ContentHash::of_file(&path);
        assert_eq!(one, Some(ContentHash::of(b"one")));

        fs::write(&path, "two").unwrap();
        assert_ne!(ContentHash::of_file(&path), one);
    }
}
