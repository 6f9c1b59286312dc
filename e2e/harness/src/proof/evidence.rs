//! Audits a sink's output, or a file with it, against roots.

use std::path::Path;

use blueprint::failure::Failure;
use host::{
    environment::{Environment, PodRecord},
    select, text,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    pinhole::Pinhole,
    trail::{self, Audit, Evidence, Route, Scene, StoredMessage},
};

/// The roots that the trails of an environment are checked against, all checks alike.
pub fn roots(environment: &Environment) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    identity::trusted_roots(&environment.layout().identity())
}

/// The roots of a PEM file: all certificates in it.
pub fn roots_of(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = read(path)?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match roots {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) => Err(no_roots(path, "it holds no certificate")),
        Err(error) => Err(no_roots(path, &error.to_string())),
    }
}

fn no_roots(path: &Path, cause: &str) -> anyhow::Error {
    Failure::usage(format!(
        "cannot read roots from `{}`: {cause}",
        path.display()
    ))
    .hint(
        "pass `identity/root.crt` of an environment's state folder, which `cargo xtask \
               status --json` prints",
    )
    .into()
}

fn read(path: &Path) -> anyhow::Result<String> {
    usable(&format!("`{}`", path.display()), text::read(path))
}

fn usable(name: &str, read: std::io::Result<String>) -> anyhow::Result<String> {
    read.map_err(|error| {
        Failure::usage(format!("cannot read {name}: {error}"))
            .hint("pass a file that exists and is readable")
            .into()
    })
}

/// The output of sinks from a file, or from standard input where `path` is `-`.
pub fn evidence_of(path: &Path) -> anyhow::Result<Vec<Evidence>> {
    let output = if path == Path::new("-") {
        usable("standard input", text::read_standard_input())?
    } else {
        read(path)?
    };
    Evidence::parse_all(&output)
}

/// Audits all that `sink` holds.
pub async fn audit_sink(environment: &Environment, sink: &PodRecord) -> anyhow::Result<Audit> {
    let record = &environment.record;
    let routes = select::gateways(record, sink.name.blueprint())
        .flat_map(|gateway| Route::all(&record.pods, &gateway.name, &sink.name));
    let scene = Scene {
        sink: sink.name.clone(),
        routes: routes.collect(),
    };
    let output = Pinhole::of(sink)?.output(0).await?;
    audit(output, roots(environment)?, Some(scene)).await
}

/// Thousands of signatures take seconds of a processor: not on a thread that others wait for.
pub async fn audit(
    output: Vec<StoredMessage>,
    roots: Vec<CertificateDer<'static>>,
    scene: Option<Scene>,
) -> anyhow::Result<Audit> {
    tokio::task::spawn_blocking(move || trail::audit(&output, &roots, scene.as_ref())).await?
}
