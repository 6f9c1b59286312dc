//! The folder of manifests: finds, loads and checks blueprints, compares and writes rendered
//! files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blueprint::{
    Blueprint, FILE_NAME, MAX_FILE_BYTES, Problem, Problems, failure::Failure, list, nearest, quote,
};

#[cfg(test)]
mod tests;

/// Reads and checks a blueprint file.
///
/// # Errors
///
/// A [`Failure::usage`]: the file cannot be read, or it has problems. All of them are listed, one `path:line: problem; fix` a line.
pub fn load(path: impl AsRef<Path>) -> anyhow::Result<Blueprint> {
    Ok(open(path.as_ref()).map_err(Failure::from)?)
}

fn open(path: &Path) -> Result<Blueprint, Problems> {
    let unreadable = |text| Problems::new(path, vec![Problem { line: None, text }]);
    Blueprint::parse_bytes(&read(path).map_err(unreadable)?, path)
}

/// The bytes of a file of reasonable size; the error is `problem; fix`.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}; check the path");
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err("is no file; give the path of a blueprint file".into());
    }
    let too_large = |size: u64| {
        format!(
            "has {size} bytes, more than the {MAX_FILE_BYTES} that a blueprint may have; give the path of a blueprint file"
        )
    };
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // The file may have grown since, or be of a kind that does not know its size.
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// The file that `blueprint` means: a name under `manifests`, or the path of any blueprint file.
///
/// # Errors
///
/// A [`Failure::usage`] that lists the known names.
pub fn find(manifests: &Path, blueprint: &str) -> anyhow::Result<PathBuf> {
    if messages::is_dns_label(blueprint) {
        let path = manifests.join(blueprint).join(FILE_NAME);
        if path.is_file() {
            return Ok(path);
        }
    }
    let path = PathBuf::from(blueprint);
    if path.is_file() {
        return Ok(path);
    }
    if path.join(FILE_NAME).is_file() {
        return Ok(path.join(FILE_NAME));
    }
    let known = names(manifests)?;
    let hint = match nearest(blueprint, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", quote(near)),
        None => "give one of these names, or the path of a blueprint file".into(),
    };
    Err(Failure::usage(format!(
        "unknown blueprint {}: neither a file nor a name under `{}`, which contains {}",
        quote(blueprint),
        manifests.display(),
        list(known.iter().map(String::as_str))
    ))
    .hint(hint)
    .into())
}

/// The blueprints named, each by [`find`], in that order and each once; all of them where none is named.
///
/// # Errors
///
/// A [`Failure::usage`] with the problems of all files.
pub fn select(manifests: &Path, blueprints: &[String]) -> anyhow::Result<Vec<Blueprint>> {
    if blueprints.is_empty() {
        return all(manifests);
    }
    let mut paths = Vec::new();
    for blueprint in blueprints {
        let path = find(manifests, blueprint)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    load_each(paths)
}

/// Every blueprint under `manifests`, in the order of their names.
///
/// # Errors
///
/// A [`Failure::usage`] with the problems of all files, or because there is none.
pub fn all(manifests: &Path) -> anyhow::Result<Vec<Blueprint>> {
    let names = names(manifests)?;
    if names.is_empty() {
        return Err(Failure::usage(format!(
            "no blueprint found under `{}`",
            manifests.display()
        ))
        .hint(format!(
            "run the command in a checkout of Ferry, or create `<name>/{FILE_NAME}` there"
        ))
        .into());
    }
    load_each(
        names
            .into_iter()
            .map(|name| manifests.join(name).join(FILE_NAME)),
    )
}

fn load_each(paths: impl IntoIterator<Item = PathBuf>) -> anyhow::Result<Vec<Blueprint>> {
    let mut blueprints = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        match open(&path) {
            Ok(blueprint) => blueprints.push(blueprint),
            Err(found) => problems.push(found.to_string()),
        }
    }
    if problems.is_empty() {
        Ok(blueprints)
    } else {
        Err(Failure::usage(problems.join("\n")).into())
    }
}

/// Names of the folders under `manifests` that hold a blueprint, sorted.
fn names(manifests: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(manifests).map_err(|error| {
        Failure::usage(format!("cannot read `{}`: {error}", manifests.display()))
            .hint("run the command in a checkout of Ferry")
    })?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(FILE_NAME).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// What of `checked_in` the folder of manifests does not hold like that: missing, different, or not rendered any more.
/// Looks only at the folders of the blueprints `only`, where some are named.
pub fn differences(
    manifests: &Path,
    checked_in: &BTreeMap<String, String>,
    only: Option<&[String]>,
) -> anyhow::Result<Vec<String>> {
    let mut differences = vec![];
    for (path, text) in checked_in {
        match std::fs::read_to_string(manifests.join(path)) {
            Ok(found) if found == *text => {}
            Ok(found) if found.replace("\r\n", "\n") == *text => differences.push(format!(
                "{path} has the line ends of Windows; `git config core.autocrlf false` and `git checkout-index --force --all` give it those of the repository"
            )),
            Ok(_) => differences.push(format!("{path} is not what the plan renders")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                differences.push(format!("{path} is missing"))
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read {}", manifests.join(path).display()));
            }
        }
    }
    for path in rendered_files(manifests, only)? {
        if !checked_in.contains_key(&path) {
            differences.push(format!("{path} is no longer rendered"));
        }
    }
    Ok(differences)
}

/// Writes `checked_in` below the folder of manifests and deletes what is not rendered any more; returns how many files changed.
/// `only` is as in [`differences`].
pub fn write(
    manifests: &Path,
    checked_in: &BTreeMap<String, String>,
    only: Option<&[String]>,
) -> anyhow::Result<usize> {
    let changed = differences(manifests, checked_in, only)?.len();
    for path in rendered_files(manifests, only)? {
        if !checked_in.contains_key(&path) {
            let file = manifests.join(&path);
            std::fs::remove_file(&file).with_context(|| format!("cannot delete {path}"))?;
            // The folders of a pod and a cluster that are gone; one that still holds something refuses.
            for folder in file.ancestors().skip(1).take(2) {
                if std::fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
    for (path, text) in checked_in {
        let file = manifests.join(path);
        let folder = file.parent().unwrap_or(manifests);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&file, text))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(changed)
}

/// Files at the depth where the renderer writes: `<blueprint>/<cluster>/<pod>/NN-*.yaml`.
fn rendered_files(manifests: &Path, only: Option<&[String]>) -> anyhow::Result<Vec<String>> {
    let mut folders = vec![manifests.to_path_buf()];
    for _ in 0..3 {
        let mut below = vec![];
        for folder in &folders {
            for entry in std::fs::read_dir(folder)
                .with_context(|| format!("cannot read {}", folder.display()))?
            {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    below.push(entry.path());
                }
            }
        }
        folders = below;
    }
    let mut files = vec![];
    for folder in folders {
        for entry in std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
                && let Ok(relative) = path.strip_prefix(manifests)
                && only
                    .is_none_or(|only| only.iter().any(|blueprint| relative.starts_with(blueprint)))
            {
                files.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}
