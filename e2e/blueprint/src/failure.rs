//! Failures: cause, kind and hint. The kind decides the exit code.

use std::fmt;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An assertion about the product failed.
    Product,
    /// Wrong usage or a bad blueprint.
    Usage,
    /// The machine, a tool or a cluster failed: no Docker, port taken, image not on a node, time-out.
    Infrastructure,
}

impl Kind {
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Product => 1,
            Self::Usage => 2,
            Self::Infrastructure => 3,
        }
    }
}

/// One line of cause that names its object (cluster, pod, `file:line`), and what to do next.
///
/// Travels inside an [`anyhow::Error`]; [`Failure::of`] finds it again.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    cause: String,
    hint: Option<String>,
}

impl Failure {
    fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            cause: cause.into(),
            hint: None,
        }
    }

    pub fn product(cause: impl Into<String>) -> Self {
        Self::new(Kind::Product, cause)
    }

    pub fn usage(cause: impl Into<String>) -> Self {
        Self::new(Kind::Usage, cause)
    }

    pub fn infrastructure(cause: impl Into<String>) -> Self {
        Self::new(Kind::Infrastructure, cause)
    }

    /// What the reader should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The outermost failure in the chain of `error`.
    pub fn of(error: &anyhow::Error) -> Option<&Self> {
        error
            .downcast_ref::<Self>()
            .or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<Self>()))
    }

    /// Exit code of a command that ends with `error`; an error without a kind is the infrastructure's.
    pub fn exit_code(error: &anyhow::Error) -> u8 {
        Self::of(error)
            .map_or(Kind::Infrastructure, Self::kind)
            .exit_code()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_failure_is_found_under_context() {
        let error = anyhow::Error::from(Failure::usage("bad blueprint").hint("fix it"))
            .context("loading")
            .context("starting");
        assert_eq!(Failure::exit_code(&error), 2);
        assert_eq!(Failure::of(&error).unwrap().next_step(), Some("fix it"));
        let context: anyhow::Result<()> =
            Err(anyhow::anyhow!("refused")).context(Failure::product("4/5"));
        assert_eq!(Failure::exit_code(&context.unwrap_err()), 1);
        assert_eq!(Failure::exit_code(&anyhow::anyhow!("plain")), 3);
    }
}
