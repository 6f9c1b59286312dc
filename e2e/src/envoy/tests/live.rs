//! Real Envoys.

pub(super) mod pki;

use serde_json::Value;
use std::path::Path;

fn replace(file: &Path, content: &Value) {
    let new = file.with_extension("new");
    std::fs::write(&new, content.to_string()).unwrap();
    std::fs::rename(&new, file).unwrap();
}
