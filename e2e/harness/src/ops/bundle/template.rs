//! Templates of a bundle's scripts and pages, and the values that fill them.

use anyhow::Context as _;
use messages::WorkloadName;
use minijinja::{
    AutoEscape, Environment as Templates, UndefinedBehavior, syntax::SyntaxConfig, value::Serde,
};
use serde::Serialize;

/// Templates one after the other, filled. A name that is not there is an error.
pub(super) fn fill(templates: &[&str], values: &impl Serialize) -> anyhow::Result<String> {
    let mut environment = Templates::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .context("cannot set how templates are read")?;
    environment.set_syntax(syntax);
    environment.add_filter("sh", quoted);
    environment
        .render_str(&templates.concat(), Serde(values))
        .context("cannot fill a template of the bundle")
}

/// One word for a POSIX shell, whatever is in it.
/// <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02_02>
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// How a pod is named in `--address` and in the file `addresses`.
pub(super) fn key(pod: &WorkloadName) -> String {
    format!("{}/{}", pod.cluster(), pod.pod())
}
