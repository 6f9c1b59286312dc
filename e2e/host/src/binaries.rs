//! Service binaries: built by Cargo from this workspace, or found in a folder.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use messages::Role;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use xshell::{Shell, cmd};

use crate::{
    environment::workspace_root,
    process::{self, GroupChild},
    timeline::Timeline,
};

/// Folder with ready `gateway`, `processor`, `sink` and `wosp`; nothing is built where it is set.
pub const BINARIES_VARIABLE: &str = "FERRY_BIN_DIR";

/// The name of the identity agent's package and binary.
const WOSP: &str = "wosp";
/// The name of the package and binary that asks an address for its health from inside a cluster.
const PROBE: &str = "probe";

/// Lines of Cargo's output that a failed build shows.
const TAIL: usize = 40;

/// How Cargo builds the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Fast to build: for environments that test code.
    Dev,
    /// Fast to run: for what is deployed, published or measured. The first build takes minutes.
    Dist,
}

impl Profile {
    /// Returns the name of Cargo's profile.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Dist => "dist",
        }
    }

    /// Returns the description of the build step.
    const fn step(self) -> &'static str {
        match self {
            Self::Dev => "build the services",
            Self::Dist => "build the services, optimised (the first time takes minutes)",
        }
    }
}

/// Where the programs of a pod are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    gateway: PathBuf,
    processor: PathBuf,
    sink: PathBuf,
    wosp: PathBuf,
    probe: PathBuf,
}

impl Binaries {
    /// The `app` of a pod of this role.
    pub fn app(&self, role: Role) -> &Path {
        match role {
            Role::Gateway => &self.gateway,
            Role::Processor => &self.processor,
            Role::Sink => &self.sink,
        }
    }

    /// The identity agent.
    pub fn wosp(&self) -> &Path {
        &self.wosp
    }

    /// Everything that an image needs, by the name that it has there.
    pub fn all(&self) -> [(&'static str, &Path); 5] {
        [
            (Role::Gateway.as_str(), &self.gateway),
            (Role::Processor.as_str(), &self.processor),
            (Role::Sink.as_str(), &self.sink),
            (WOSP, &self.wosp),
            (PROBE, &self.probe),
        ]
    }

    fn locate(mut find: impl FnMut(&str) -> anyhow::Result<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self {
            gateway: find(Role::Gateway.as_str())?,
            processor: find(Role::Processor.as_str())?,
            sink: find(Role::Sink.as_str())?,
            wosp: find(WOSP)?,
            probe: find(PROBE)?,
        })
    }

    /// Takes the programs from a folder; a usage failure names the first that is not there.
    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        Self::locate(|name| {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(std::path::absolute(path)?);
            }
            Err(
                Failure::usage(format!("`{}` does not exist", path.display()))
                    .hint(format!(
                        "put the built services there, or unset `{BINARIES_VARIABLE}` to build them"
                    ))
                    .into(),
            )
        })
    }
}

/// The service binaries, up to date with their sources unless `FERRY_BIN_DIR` names ready ones.
///
/// # Errors
///
/// Fails if the folder lacks a program, if Cargo cannot be started, and with the end of its output if the build fails.
pub async fn binaries(profile: Profile, timeline: &Timeline) -> anyhow::Result<Binaries> {
    if let Some(folder) = std::env::var_os(BINARIES_VARIABLE).filter(|folder| !folder.is_empty()) {
        return Binaries::in_folder(Path::new(&folder));
    }
    timeline
        .run(profile.step(), |step| async move {
            build(profile, |crate_name| {
                step.progress(format!("compiling {crate_name}"))
            })
            .await
        })
        .await
}

/// One line of `cargo build --message-format=json`.
/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    target: CargoTarget,
    executable: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct CargoTarget {
    name: String,
}

/// True for a variable that `cargo run` and `cargo test` set for the program they start. A build that saw them would
/// differ from the same build without (`ring` is rebuilt when `CARGO_PKG_NAME` changes), and take turns with it.
pub fn is_of_the_outer_cargo(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_BIN_")
        || matches!(
            name,
            "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "CARGO_TARGET_TMPDIR" | "OUT_DIR"
        )
}

async fn build(profile: Profile, progress: impl Fn(&str)) -> anyhow::Result<Binaries> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = cargo_command(profile, &cargo)?;
    let mut child = match GroupChild::spawn(&mut command) {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                Failure::infrastructure(format!("cannot build the services: `{}` does not exist", cargo.display()))
                    .hint(format!("install Rust from https://rustup.rs, or set `{BINARIES_VARIABLE}` to a folder with built services"))
                    .into(),
            );
        }
        Err(error) => return Err(error).context("cannot start `cargo build`"),
    };
    let (stdout, stderr) = (child.output(), child.errors());
    let read_messages = async {
        let mut text = String::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_string(&mut text).await?;
        }
        std::io::Result::Ok(text)
    };
    let read_log = async {
        let mut log = String::new();
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).lines();
            while let Some(line) = lines.next_line().await? {
                match line.trim_start().strip_prefix("Compiling ") {
                    Some(what) => progress(what.split(" (").next().unwrap_or(what)),
                    None => log.extend([line.as_str(), "\n"]),
                }
            }
        }
        std::io::Result::Ok(log)
    };
    let (messages, log, status) = tokio::try_join!(read_messages, read_log, child.wait())
        .context("cannot read the output of `cargo build`")?;
    if !status.success() {
        return Err(Failure::infrastructure(format!(
            "cannot build the services: `cargo build`: {status}\n{}",
            process::tail(&log, TAIL)
        ))
        .hint("fix the compiler errors above and run the command again")
        .into());
    }
    let built: Vec<CargoMessage> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    Binaries::locate(|name| {
        built
            .iter()
            .filter(|message| message.reason == "compiler-artifact" && message.target.name == name)
            .find_map(|message| message.executable.clone())
            .with_context(|| format!("`cargo build` did not report the path of `{name}`"))
    })
}

fn cargo_command(profile: Profile, cargo: &OsStr) -> anyhow::Result<tokio::process::Command> {
    let shell = Shell::new()?;
    shell.change_dir(workspace_root()?);
    let programs = Role::ALL
        .iter()
        .map(|role| role.as_str())
        .chain([WOSP, PROBE]);
    // By binary and not by package: Cargo then settles the features of shared dependencies for the whole workspace, as
    // `cargo xtask` and `cargo test` do, and compiles each of them once.
    let programs: Vec<_> = programs.flat_map(|name| ["--bin", name]).collect();
    let profile = profile.as_str();
    let mut line = cmd!(
        shell,
        "{cargo} build --locked --profile {profile} --color never --message-format json-render-diagnostics {programs...}"
    );
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_the_outer_cargo) {
            line = line.env_remove(name);
        }
    }
    let mut command = tokio::process::Command::from(std::process::Command::from(line));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_binaries_are_taken_from_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["gateway", "processor", "sink"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let error = Binaries::in_folder(folder.path()).unwrap_err();
        assert_eq!(Failure::exit_code(&error), 2);
        assert!(
            error.to_string().ends_with("/wosp` does not exist"),
            "{error}"
        );

        for name in ["wosp", "probe"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = Binaries::in_folder(folder.path()).unwrap();
        assert_eq!(found.app(Role::Sink), folder.path().join("sink"));
    }

    #[test]
    fn profile_of_deployments_is_optimised() {
        let manifest = std::fs::read_to_string(workspace_root().unwrap().join("Cargo.toml"));
        let manifest = manifest.unwrap();
        let section = format!("[profile.{}]\n", Profile::Dist.as_str());
        let (_, settings) = manifest.split_once(&section).unwrap();
        let settings = settings.split("\n[").next().unwrap();
        assert!(settings.contains("inherits = \"release\""), "{settings}");
        let command = cargo_command(Profile::Dist, OsStr::new("cargo")).unwrap();
        let command = format!("{:?}", command.as_std());
        assert!(command.contains(r#""--profile" "dist""#), "{command}");
    }

    #[test]
    fn outer_cargo_variables_alone_are_removed() {
        assert!(is_of_the_outer_cargo("CARGO_PKG_NAME"));
        for name in [
            "CARGO_TARGET_DIR",
            "CARGO_HOME",
            "CARGO_INCREMENTAL",
            "RUSTFLAGS",
            "CARGO_NET_OFFLINE",
        ] {
            assert!(!is_of_the_outer_cargo(name), "{name} must reach the build");
        }
    }
}
