//! Checks whether a running process matches its definition, by content and never by file times:
//! builds, checkouts and copies rewrite files without changing them.

use std::{fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::{Launch, ProcessId};

/// How a program begins that the kernel runs itself (elf(5)). Any other is a script, and what runs is its interpreter, or
/// what that has become.
const ELF: &[u8] = b"\x7fELF";

impl Launch {
    /// Hash of all that the process is started with, `configuration` being what it reads at its start: the same for the same
    /// process only. A program that the kernel runs itself is not part of it, see [`Launch::is_program_of`].
    pub fn made_of(&self, configuration: &[u8]) -> anyhow::Result<String> {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // With its length, so that no two lists of parts have one text.
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(&serde_json::to_vec(&(&self.args, &self.env, &self.folder))?);
        part(configuration);
        if !is_elf(&self.program)? {
            part(&std::fs::read(&self.program).with_context(|| cannot_read(&self.program))?);
        }
        Ok(format!("{:x}", hash.finalize()))
    }

    /// Whether a process that runs does so by this program, wherever it was when the process was started.
    pub fn is_program_of(&self, process: ProcessId) -> anyhow::Result<bool> {
        if !is_elf(&self.program)? {
            return Ok(true);
        }
        // Leads to what runs, even where that was deleted or replaced since (proc_pid_exe(5)).
        let running = format!("/proc/{}/exe", process.pid);
        let (Ok(running), Ok(seen)) = (File::open(&running), std::fs::metadata(&running)) else {
            return Ok(false);
        };
        let wanted = File::open(&self.program).with_context(|| cannot_read(&self.program))?;
        let now = wanted.metadata()?;
        // Nobody can write to a program while it runs (ETXTBSY), so the same file has the same content.
        if (now.dev(), now.ino()) == (seen.dev(), seen.ino()) {
            return Ok(true);
        }
        Ok(now.len() == seen.len() && content(running)? == content(wanted)?)
    }
}

fn is_elf(program: &Path) -> anyhow::Result<bool> {
    let mut start = Vec::new();
    File::open(program)
        .and_then(|file| file.take(ELF.len() as u64).read_to_end(&mut start))
        .with_context(|| cannot_read(program))?;
    Ok(start == ELF)
}

fn content(mut file: File) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

fn cannot_read(program: &Path) -> String {
    format!("cannot read `{}`", program.display())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::process;

    fn launch(folder: &Path, program: &Path, argument: &str) -> Launch {
        Launch {
            program: program.into(),
            args: vec![argument.into()],
            env: BTreeMap::new(),
            folder: folder.into(),
            log: folder.join("log"),
        }
    }

    #[tokio::test]
    async fn a_program_is_known_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let sleep = ["/usr/bin/sleep", "/bin/sleep"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap();
        let program = folder.join("program");
        std::fs::copy(sleep, &program).unwrap();
        let wanted = launch(&folder, &program, "600");
        let id = wanted.start().unwrap();
        assert!(wanted.is_program_of(id).unwrap(), "it is the same file");
        // As a build does: another file at the same place.
        let put = |content: &[u8]| {
            let new = folder.join("new");
            std::fs::write(&new, content).unwrap();
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(&new, &program).unwrap();
        };
        let content = std::fs::read(sleep).unwrap();
        put(&content);
        assert!(wanted.is_program_of(id).unwrap(), "its content is the same");
        put(&[content.as_slice(), b"1"].concat());
        assert!(!wanted.is_program_of(id).unwrap(), "it is longer");
        let mut other = content;
        *other.last_mut().unwrap() ^= 1;
        put(&other);
        assert!(!wanted.is_program_of(id).unwrap(), "its last byte differs");
        process::kill(&[id]).await.unwrap();
        assert!(!wanted.is_program_of(id).unwrap(), "nothing runs any more");
    }

    #[test]
    fn process_fingerprint_excludes_program_path() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#!/bin/sh\nexec sleep 1").unwrap();
        let of = |argument: &str, configuration: &str| {
            let launch = launch(folder.path(), &script, argument);
            launch.made_of(configuration.as_bytes()).unwrap()
        };
        let made_of = of("1", "{}");
        assert_eq!(made_of.len(), 64);
        assert_eq!(of("1", "{}"), made_of);
        assert_ne!(of("2", "{}"), made_of);
        assert_ne!(of("1", "{ }"), made_of);
        std::fs::write(&script, "#!/bin/sh\nexec sleep 2").unwrap();
        assert_ne!(of("1", "{}"), made_of, "a script is compared as a whole");
        std::fs::remove_file(&script).unwrap();
        let error = launch(folder.path(), &script, "1")
            .made_of(b"")
            .unwrap_err();
        assert!(error.to_string().contains("script"), "{error}");
    }
}
