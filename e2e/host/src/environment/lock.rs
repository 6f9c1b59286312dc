//! Locks an environment, so that one command at a time changes it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use rustix::{fs::FlockOperation, io::Errno};
use serde::{Deserialize, Serialize};

use super::{Name, Place, Seat, Store};
use crate::{
    process::ProcessId,
    timeline::Timeline,
    wait::{Seen, Wait},
};

/// Longest time that a command waits for another one on the same environment.
const LIMIT: Duration = Duration::from_secs(600);

/// Maximum length of the command text that waiting commands show, in characters.
const COMMAND_CHARACTERS: usize = 160;

/// The right to change one environment; given back when dropped, and by the kernel when its process dies.
///
/// A `flock` on `<state root>/<name>.lock`. The holder deletes the file before it lets go, so that nothing is left;
/// a command that then gets the lock of the deleted file sees that its name is gone, and starts
/// over.
#[derive(Debug)]
pub struct Lock {
    name: Name,
    path: PathBuf,
    /// Closing it releases the lock.
    _file: File,
}

/// Content of a lock file: for whom others wait.
#[derive(Serialize, Deserialize)]
struct Holder {
    process: ProcessId,
    command: String,
    /// Where its process is: a state root may be shared.
    #[serde(default)]
    seat: Option<Seat>,
}

impl Lock {
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Best effort: a file that stays is taken over by the next command.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Store {
    fn lock_path(&self, name: &Name) -> PathBuf {
        self.root().join(format!("{name}.lock"))
    }

    /// Takes the lock of an environment, or returns its holder.
    pub fn try_lock(&self, name: &Name) -> anyhow::Result<Result<Lock, String>> {
        let path = self.lock_path(name);
        self.make_root()?;
        let context = || format!("cannot lock `{}`", path.display());
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .with_context(context)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Err(holder(&mut file))),
                Err(error) => return Err(error).with_context(context),
            }
            if !is_at(&file, &path) {
                continue; // Its holder deleted the file between our opening and locking it.
            }
            write_holder(&mut file).with_context(context)?;
            return Ok(Ok(Lock {
                name: name.clone(),
                path,
                _file: file,
            }));
        }
    }

    /// Takes the lock of an environment; waits for another command that holds it, and names that
    /// command.
    pub async fn lock(&self, name: &Name, timeline: &Timeline) -> anyhow::Result<Lock> {
        let holder = match self.try_lock(name)? {
            Ok(lock) => return Ok(lock),
            Err(holder) => holder,
        };
        let step = timeline.step(format!(
            "waiting for environment `{name}`, locked by {holder}"
        ));
        let lock = Wait::until(format!("the lock of environment `{name}`"))
            .within(LIMIT)
            .hint("wait for the other command to finish, or stop it")
            .showing(&step)
            .poll(|| async {
                Ok(match self.try_lock(name)? {
                    Ok(lock) => Seen::Ready(lock),
                    Err(holder) => Seen::Waiting(format!("locked by {holder}")),
                })
            })
            .await?;
        step.done();
        Ok(lock)
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn write_holder(file: &mut File) -> anyhow::Result<()> {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    let command: Vec<_> = std::iter::once(program.to_string_lossy().into_owned())
        .chain(args)
        .collect();
    let holder = Holder {
        process: ProcessId::current().context("`/proc` does not show this process")?,
        command: command.join(" ").chars().take(COMMAND_CHARACTERS).collect(),
        seat: Some(Seat::here().clone()),
    };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(&holder)?)?;
    Ok(())
}

/// Who wrote the lock file, for people.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let holder = file
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let Some(holder) = holder else {
        return "another command".into();
    };
    let place = holder.seat.map(|seat| seat.seen_from(Seat::here()));
    match place {
        Some(Place::Elsewhere(place)) => {
            format!("{} {place} (`{}`)", holder.process, holder.command)
        }
        _ => format!("{} (`{}`)", holder.process, holder.command),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::timeline::{Event, Observer};

    struct Seen(Arc<std::sync::Mutex<Vec<String>>>);

    impl Observer for Seen {
        fn observe(&self, event: &Event<'_>) {
            if let Event::Started { name, .. } = event {
                self.0.lock().unwrap().push((*name).to_owned());
            }
        }
    }

    #[tokio::test]
    async fn the_second_command_waits_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let name: Name = "local".parse().unwrap();
        let first = store.lock(&name, &Timeline::default()).await.unwrap();

        let steps = Arc::new(std::sync::Mutex::new(vec![]));
        let timeline = Timeline::new(Seen(steps.clone()));
        let second = store.lock(&name, &timeline);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        let said = steps.lock().unwrap().join("\n");
        let pid = std::process::id();
        assert!(
            said.starts_with(&format!(
                "waiting for environment `local`, locked by process {pid} (`"
            )),
            "{said}"
        );
        drop(first);
        drop(second.await.unwrap());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "a lock must leave no file"
        );
    }

    #[test]
    fn a_file_left_by_a_killed_holder_locks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let name: Name = "local".parse().unwrap();
        std::fs::write(store.lock_path(&name), b"half a hol").unwrap();
        assert!(store.try_lock(&name).unwrap().is_ok());
    }

    #[test]
    fn a_holder_on_another_machine_is_named_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create_new(folder.path().join("local.lock")).unwrap();
        write_holder(&mut file).unwrap();
        let text = std::fs::read_to_string(folder.path().join("local.lock")).unwrap();
        let mut written: Holder = serde_json::from_str(&text).unwrap();
        written.seat = Some(Seat {
            host: "ferry-7".into(),
            boot: "another".into(),
            ..Seat::default()
        });
        let path = folder.path().join("local.lock");
        std::fs::write(&path, serde_json::to_vec(&written).unwrap()).unwrap();
        let said = holder(&mut File::open(path).unwrap());
        let pid = std::process::id();
        assert!(
            said.starts_with(&format!("process {pid} on host `ferry-7` (`")),
            "{said}"
        );
    }

    #[test]
    fn locks_of_two_environments_are_independent() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let one = store.try_lock(&"one".parse().unwrap()).unwrap();
        let two = store.try_lock(&"two".parse().unwrap()).unwrap();
        assert!(one.is_ok() && two.is_ok());
    }
}
