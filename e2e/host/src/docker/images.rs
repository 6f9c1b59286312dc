//! Images: inspects, pulls, builds, and streams them into containers.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use blueprint::failure::Failure;
use futures_util::future::{join_all, try_join_all};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStdin, ChildStdout, Command},
};

use super::{docker, failed, labels, parse, run, unreachable_engine};
use crate::process::{self, GroupChild, tail};

/// Bytes that are read from `docker save` before they are handed to every taker.
const CHUNK: usize = 1 << 20;

/// An image of the engine.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of its configuration; of its manifest or index where the engine keeps images in containerd.
    pub id: String,
    pub labels: BTreeMap<String, String>,
    /// As Go names it, such as `amd64`; `None` where the engine does not tell.
    pub architecture: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    architecture: Option<String>,
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default, deserialize_with = "labels")]
    labels: BTreeMap<String, String>,
}

/// The image of this name on this machine; `None` where there is none.
pub async fn image(reference: &str) -> anyhow::Result<Option<Image>> {
    let line = docker(["image", "inspect", reference]);
    let done = process::output(&line).await?;
    if !done.status.success() {
        let said = done.stderr.to_lowercase();
        // The last is Podman's.
        let absent = ["no such image", "no such object", "image not known"];
        if absent.iter().any(|words| said.contains(words)) {
            return Ok(None);
        }
        return Err(failed(&line, &done));
    }
    let seen: Vec<Inspected> = parse("an image", &done.stdout)?;
    Ok(seen.into_iter().next().map(|image| Image {
        id: image.id,
        labels: image.config.map(|config| config.labels).unwrap_or_default(),
        architecture: image.architecture.filter(|name| !name.is_empty()),
    }))
}

/// Fetches an image from its registry.
pub async fn pull(reference: &str, limit: Duration) -> anyhow::Result<()> {
    run(&docker(["pull", "--quiet", reference]).within(limit)).await?;
    Ok(())
}

/// An image to build.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// A tar archive with the `Dockerfile` and what it copies. By standard input, since a `docker` that runs confined, as a
    /// snap does, sees no temporary folder.
    pub context: &'a [u8],
    pub tag: &'a str,
    pub labels: &'a [(&'a str, &'a str)],
    /// Architecture of the programs in it, as Go names it, whatever the engine's default is.
    pub architecture: &'a str,
    pub limit: Duration,
}

/// Builds an image, with BuildKit or without. That it ends well is no proof that the engine has the image: a builder with a
/// store of its own may keep it, unless it is told to `load` it; builders that know no such store do not know that flag.
pub async fn build(what: Build<'_>, load: bool) -> anyhow::Result<()> {
    let labels = what.labels.iter();
    let labels = labels.map(|(key, value)| format!("--label={key}={value}"));
    let line = docker(["build", "--quiet", "--tag", what.tag])
        .args(labels)
        .args([format!("--platform=linux/{}", what.architecture)])
        .args(load.then_some("--load"))
        .args(["-"])
        .stdin(what.context)
        // An attestation would make the image an index, for nothing: it never leaves this machine.
        .env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")
        .within(what.limit);
    let done = process::output(&line).await?;
    match done.status.success() {
        true => Ok(()),
        false => Err(unbuilt(what.tag, &done.stderr).into()),
    }
}

/// The failure of a build. A builder's lines before its last one are not the cause.
fn unbuilt(tag: &str, stderr: &str) -> Failure {
    unreachable_engine(stderr).unwrap_or_else(|| {
        let said = tail(stderr, 1);
        let cause = said.trim().trim_start_matches("ERROR: ");
        Failure::infrastructure(format!("`docker build` of `{tag}`: {cause}")).hint(
            "run `docker buildx ls` to see which builders work; set `BUILDX_BUILDER=default` to \
             build with the engine",
        )
    })
}

/// The tags of a repository, newest first.
pub async fn tags(repository: &str) -> anyhow::Result<Vec<String>> {
    let line = docker([
        "image",
        "ls",
        "--format={{.Repository}}:{{.Tag}}",
        repository,
    ]);
    let done = run(&line).await?;
    Ok(done
        .stdout
        .lines()
        .filter(|tag| !tag.ends_with(":<none>"))
        .map(str::to_owned)
        .collect())
}

/// Gives an image another name.
pub async fn tag(reference: &str, name: &str) -> anyhow::Result<()> {
    run(&docker(["image", "tag", reference, name])).await?;
    Ok(())
}

/// Removes a tag, and the image with its last one.
pub async fn remove_image(reference: &str) -> anyhow::Result<()> {
    run(&docker(["image", "rm", reference])).await?;
    Ok(())
}

/// Images on their way into containers: one `docker save`, read by a command in each of them.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub images: &'a [String],
    pub containers: &'a [String],
    /// What reads the archive from its standard input in each container.
    pub command: &'a [&'a str],
    pub limit: Duration,
}

/// Streams the images into all containers concurrently. Fails if one command ends with another
/// status than 0, naming its
/// container, or at the deadline. An exit status of 0 is no proof of arrival: look at the node.
pub async fn load(what: Load<'_>) -> anyhow::Result<()> {
    match tokio::time::timeout(what.limit, stream(what)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::infrastructure(format!(
            "{} did not arrive in {} within {:.0?}",
            what.images.join(", "),
            what.containers.join(", "),
            what.limit
        ))
        .hint("run `docker stats`: the machine may be out of memory or disk")
        .into()),
    }
}

async fn stream(what: Load<'_>) -> anyhow::Result<()> {
    let mut save = spawn(&["save"], what.images, Stdio::null())?;
    let archive = save.output().ok_or_else(no_pipe)?;
    let mut takers = what
        .containers
        .iter()
        .map(|container| Taker::start(container, what.command))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let inputs = takers.iter_mut().map(|taker| taker.child.input()).collect();
    let (fed, saved, loaded) = tokio::join!(
        feed(archive, inputs),
        save.wait_with_output(),
        try_join_all(takers.into_iter().map(Taker::finish))
    );
    let saved = saved?;
    if !saved.status.success() {
        let stderr = String::from_utf8_lossy(&saved.stderr);
        return Err(unreachable_engine(&stderr)
            .unwrap_or_else(|| {
                Failure::infrastructure(format!(
                    "`docker save {}`: {}\n{}",
                    what.images.join(" "),
                    saved.status,
                    tail(&stderr, 20)
                ))
            })
            .into());
    }
    fed?;
    let failed: Vec<_> = loaded?.into_iter().flatten().collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::infrastructure(failed.join("\n"))
        .hint("check that the node is running (`docker ps`) and has disk space (`df -h`)")
        .into())
}

/// Copies the archive to every taker. The end of `inputs`, on every way out, tells the takers that no more comes.
async fn feed(
    mut archive: ChildStdout,
    mut inputs: Vec<Option<ChildStdin>>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = archive.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        join_all(
            inputs
                .iter_mut()
                .map(|input| hand_over(input, &chunk[..length])),
        )
        .await;
    }
}

/// Writes to a taker; one that has ended takes no more, and its exit status will tell why.
async fn hand_over(input: &mut Option<ChildStdin>, bytes: &[u8]) {
    if let Some(open) = input
        && open.write_all(bytes).await.is_err()
    {
        *input = None;
    }
}

/// A command in a container that reads the archive.
struct Taker {
    container: String,
    child: GroupChild,
}

impl Taker {
    fn start(container: &str, command: &[&str]) -> anyhow::Result<Self> {
        let args: Vec<_> = command.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(Self {
            container: container.into(),
            child: spawn(&["exec", "--interactive", container], &args, Stdio::piped())?,
        })
    }

    /// What went wrong, if anything did.
    async fn finish(self) -> anyhow::Result<Option<String>> {
        let done = self.child.wait_with_output().await?;
        Ok((!done.status.success()).then(|| {
            format!(
                "{}: import of images: {}\n{}",
                self.container,
                done.status,
                tail(&String::from_utf8_lossy(&done.stderr), 5)
            )
        }))
    }
}

pub(super) fn spawn(args: &[&str], more: &[String], stdin: Stdio) -> anyhow::Result<GroupChild> {
    let mut command = Command::new("docker");
    command
        .args(args)
        .args(more)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    GroupChild::spawn(&mut command).map_err(|error| {
        Failure::infrastructure(format!("cannot start `docker`: {error}"))
            .hint("install Docker, or pass `--runtime embedded`")
            .into()
    })
}

pub(super) fn no_pipe() -> anyhow::Error {
    anyhow::anyhow!("a pipe to `docker` is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_that_fails_is_one_line_with_a_fix() {
        for (stderr, cause) in [
            (
                "WARNING: No output specified with remote driver.\nERROR: failed to build: context deadline exceeded\n",
                "`docker build` of `a:1`: failed to build: context deadline exceeded",
            ),
            (
                "ERROR: no builder \"nosuch\" found",
                "`docker build` of `a:1`: no builder \"nosuch\" found",
            ),
        ] {
            let failure = unbuilt("a:1", stderr);
            assert_eq!(failure.to_string(), cause);
            assert!(failure.next_step().unwrap().contains("docker buildx ls"));
        }
        let gone = unbuilt("a:1", "Cannot connect to the Docker daemon at unix:///x.");
        assert!(gone.to_string().starts_with("Docker does not respond"));
    }
}
