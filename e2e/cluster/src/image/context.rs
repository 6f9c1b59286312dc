//! Collects the files of the services' image: programs with this machine's loader and
//! libraries, so that it needs no base image.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use futures_util::future::try_join_all;
use host::{
    environment::workspace_root,
    process::{self, CommandLine},
};
use render::USER;
use sha2::{Digest as _, Sha256};

/// Where the shared libraries are in the image; the loader is where the programs name it.
const LIBRARIES: &str = "lib/ferry";

/// How the programs are stripped.
const STRIP: &str = "--strip-all";

/// Libraries that the C library loads by itself to resolve names; part of it in glibc 2.34 and later.
const NAME_SERVICE: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// The files of an image, not copied yet.
#[derive(Debug)]
pub(super) struct BuildContext {
    /// Path in the image, without the first `/` → the file of this machine.
    files: BTreeMap<PathBuf, PathBuf>,
    programs: Vec<PathBuf>,
    hash: String,
}

impl BuildContext {
    /// Finds out what the programs need, each being `/<name>` in the image.
    pub(super) async fn of(
        programs: impl IntoIterator<Item = (&str, &Path)>,
    ) -> anyhow::Result<Self> {
        let programs: BTreeMap<PathBuf, PathBuf> = programs
            .into_iter()
            .map(|(name, path)| (name.into(), path.into()))
            .collect();
        let needs = try_join_all(programs.values().map(|program| needs(program))).await?;
        let mut files = programs.clone();
        files.extend(needs.into_iter().flatten());
        let hash = tokio::task::spawn_blocking({
            let files = files.clone();
            move || hash(&files)
        })
        .await??;
        Ok(Self {
            files,
            programs: programs.into_keys().collect(),
            hash,
        })
    }

    /// 64 hex digits over names and content of all files and the Dockerfile.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// The archive that `docker build` takes, in memory: see [`Self::write`].
    pub(super) async fn archive(&self) -> anyhow::Result<Vec<u8>> {
        let folder = scratch()?;
        self.write(folder.path()).await?;
        tokio::task::spawn_blocking(move || pack(folder.path())).await?
    }

    /// Writes a folder that `docker build` takes: `Dockerfile`, and `root/` with the files of the image.
    pub(super) async fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let root = folder.join("root");
        for (to, from) in &self.files {
            copy(from, &root.join(to))?;
        }
        open_folders(&root)?;
        try_join_all(
            self.programs
                .iter()
                .map(|program| strip(root.join(program))),
        )
        .await?;
        fs::write(folder.join("Dockerfile"), dockerfile()).context("cannot write the Dockerfile")
    }
}

/// A folder for a while: where temporary files belong, else where everything goes that is made from this checkout.
fn scratch() -> anyhow::Result<tempfile::TempDir> {
    tempfile::tempdir().or_else(|error| {
        let other = workspace_root()?.join("target");
        tempfile::tempdir_in(&other).with_context(|| {
            format!(
                "cannot create a folder for the image's files in `{}` ({error}) or `{}`; set \
                 `TMPDIR` to another folder",
                std::env::temp_dir().display(),
                other.display()
            )
        })
    })
}

/// A folder as an archive that is the same for the same content.
fn pack(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(vec![]);
    archive.mode(tar::HeaderMode::Deterministic);
    archive
        .append_dir_all("", folder)
        .and_then(|()| archive.into_inner())
        .with_context(|| format!("cannot pack `{}` for the image", folder.display()))
}

fn dockerfile() -> String {
    format!(
        "FROM scratch\nCOPY root/ /\nENV PATH=/ LD_LIBRARY_PATH=/{LIBRARIES}\nUSER {USER}:{USER}\n"
    )
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let work = || -> std::io::Result<()> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from, to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))
    };
    work().with_context(|| format!("cannot copy `{}` for the image", from.display()))
}

/// The image's user must be able to enter every folder, whatever the umask here is.
fn open_folders(folder: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot open `{}` for the image", folder.display());
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).with_context(context)?;
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_type().with_context(context)?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

/// Takes symbols and debug information out of a copy, half of its size and of the time that it takes to a node. A machine
/// without `strip` gets a larger image, which works as well.
async fn strip(program: PathBuf) -> anyhow::Result<()> {
    let line = CommandLine::new("strip").args([STRIP]).args([&program]);
    match process::output(&line).await {
        Ok(_) => Ok(()),
        Err(error) if Failure::of(&error).is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Names and content, so that neither times nor folders of this machine count.
fn hash(files: &BTreeMap<PathBuf, PathBuf>) -> anyhow::Result<String> {
    let mut all = Sha256::new();
    all.update(dockerfile());
    all.update(STRIP);
    for (to, from) in files {
        let content =
            fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
        all.update(to.to_string_lossy().as_bytes());
        all.update([0]);
        all.update(Sha256::digest(&content));
    }
    Ok(format!("{:x}", all.finalize()))
}

/// The loader and the libraries of a program: path in the image → file.
async fn needs(program: &Path) -> anyhow::Result<BTreeMap<PathBuf, PathBuf>> {
    let line = CommandLine::new("ldd").args([program]).env("LC_ALL", "C");
    let done = process::output(&line).await?;
    let said = format!("{}\n{}", done.stdout, done.stderr);
    if said.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(BTreeMap::new());
    }
    if !done.status.success() {
        return Err(Failure::infrastructure(format!(
            "`{line}`: {}\n{}",
            done.status,
            done.tail(5)
        ))
        .hint("check with `file` that it is a program for this machine")
        .into());
    }
    let mut files = BTreeMap::new();
    for found in
        parse(&done.stdout).with_context(|| format!("the libraries of `{}`", program.display()))?
    {
        if let Some(folder) = found
            .from
            .parent()
            .filter(|_| found.to.ends_with("libc.so.6"))
        {
            let helpers = NAME_SERVICE
                .iter()
                .map(|name| folder.join(name))
                .filter(|path| path.is_file());
            files.extend(
                helpers
                    .filter_map(|path| Some((Path::new(LIBRARIES).join(path.file_name()?), path))),
            );
        }
        files.insert(found.to, found.from);
    }
    Ok(files)
}

#[derive(Debug, PartialEq, Eq)]
struct Library {
    /// Path in the image.
    to: PathBuf,
    from: PathBuf,
}

/// Reads what `ldd` prints: `NAME => PATH (ADDRESS)` for a library, a lone path for the loader, `NAME (ADDRESS)` for what
/// the kernel provides.
fn parse(text: &str) -> anyhow::Result<Vec<Library>> {
    let mut found = vec![];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let line = line.rsplit_once(" (").map_or(line, |(line, _)| line);
        let (name, path) = line
            .split_once(" => ")
            .map_or((line, line), |(name, path)| (name.trim(), path.trim()));
        if path == "not found" {
            return Err(Failure::infrastructure(format!(
                "library `{name}` is not on this machine"
            ))
            .hint("install the package that contains it")
            .into());
        }
        if !path.starts_with('/') {
            continue;
        }
        // The loader is named by its path, and has to be there in the image too.
        let to = match name.strip_prefix('/') {
            Some(loader) => loader.into(),
            None => Path::new(LIBRARIES).join(name),
        };
        found.push(Library {
            to,
            from: path.into(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(to: &str, from: &str) -> Library {
        Library {
            to: to.into(),
            from: from.into(),
        }
    }

    #[test]
    fn loader_and_libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x7f)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            parse(text).unwrap(),
            [
                library(
                    "lib/ferry/libgcc_s.so.1",
                    "/lib/x86_64-linux-gnu/libgcc_s.so.1"
                ),
                library("lib/ferry/libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
                library("lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
            ]
        );
        let linked = "\t/lib64/ld-linux-x86-64.so.2 => /usr/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            parse(linked).unwrap(),
            [library(
                "lib64/ld-linux-x86-64.so.2",
                "/usr/lib64/ld-linux-x86-64.so.2"
            )]
        );
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = parse("\tlibssl.so.3 => not found\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "library `libssl.so.3` is not on this machine"
        );
    }

    #[tokio::test]
    async fn the_hash_follows_the_content_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let program = |folder: &str, content: &[u8]| {
            let path = folder.to_owned();
            fs::create_dir_all(&path).unwrap();
            let path = Path::new(&path).join("gateway");
            fs::write(&path, content).unwrap();
            path
        };
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let own = fs::read("/proc/self/exe").unwrap();
        let changed = [own.as_slice(), b"x"].concat();
        let mut hashes = vec![];
        for path in [
            program(&at("a"), &own),
            program(&at("b"), &own),
            program(&at("c"), &changed),
        ] {
            hashes.push(
                BuildContext::of([("gateway", path.as_path())])
                    .await
                    .unwrap()
                    .hash,
            );
        }
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
        assert_eq!(hashes[0].len(), 64);
    }

    #[tokio::test]
    async fn context_files_are_world_readable() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let context = BuildContext::of([("gateway", own.as_path())])
            .await
            .unwrap();
        context.write(folder.path()).await.unwrap();
        let gateway = folder.path().join("root/gateway");
        assert_eq!(
            gateway.metadata().unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert!(gateway.metadata().unwrap().len() <= own.metadata().unwrap().len());
        for (to, _) in context.files {
            let parent = folder
                .path()
                .join("root")
                .join(to)
                .parent()
                .unwrap()
                .metadata()
                .unwrap();
            assert_eq!(parent.permissions().mode() & 0o777, 0o755);
        }
        assert!(dockerfile().ends_with("USER 65532:65532\n"));
        let packed = pack(folder.path()).unwrap();
        let mut archive = tar::Archive::new(packed.as_slice());
        let modes: BTreeMap<_, _> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().into_owned(),
                    entry.header().mode().unwrap() & 0o777,
                )
            })
            .collect();
        assert_eq!(modes[Path::new("root/gateway")], 0o755);
        assert_eq!(modes[Path::new("root/lib")], 0o755);
        assert_eq!(modes[Path::new("Dockerfile")], 0o644);
    }

    #[tokio::test]
    async fn non_programs_are_refused_or_taken_as_is() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        assert!(
            BuildContext::of([("gateway", absent.as_path())])
                .await
                .is_err()
        );
    }
}
