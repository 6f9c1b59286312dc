//! Serialises tests across processes by file locks, since `cargo nextest` runs each test in a
//! separate process.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions, TryLockError},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use host::{
    environment::workspace_root,
    wait::{Seen, Wait},
};

/// Longest wait for a turn: all others have theirs first.
const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);

/// Places of which a test takes some for as long as it runs; the kernel gives back those of a test that is killed.
#[derive(Clone, Debug)]
pub struct Turns {
    name: Cow<'static, str>,
    places: u32,
}

/// Places that are taken, until dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "an open file has the lock")] Vec<File>);

impl Turns {
    /// The places of this name; all tests of this checkout share them.
    pub const fn new(name: &'static str, places: u32) -> Self {
        Self {
            name: Cow::Borrowed(name),
            places,
        }
    }

    /// The one place of those who use this blueprint of an environment that is shared.
    pub fn of_blueprint(name: &str) -> Self {
        Self {
            name: format!("blueprint-{name}").into(),
            places: 1,
        }
    }

    /// Takes one place.
    ///
    /// # Errors
    ///
    /// Where the lock files cannot be made, or no place was free for hours.
    pub async fn take(&self) -> anyhow::Result<Turn> {
        self.take_many(1).await
    }

    /// Takes `count` places, at most all of them; see [`Turns::take`].
    pub async fn take_many(&self, count: u32) -> anyhow::Result<Turn> {
        // Only one at a time gathers places, so that two that want several do not wait for each other.
        let gathering = self.wait_for(&[self.file("queue")?], 1).await?;
        let places: Vec<_> = (0..self.places)
            .map(|place| self.file(&place.to_string()))
            .collect::<Result<_, _>>()?;
        let taken = self.wait_for(&places, count.min(self.places)).await?;
        drop(gathering);
        Ok(Turn(taken))
    }

    async fn wait_for(&self, files: &[PathBuf], count: u32) -> anyhow::Result<Vec<File>> {
        let count = usize::try_from(count)?;
        let mut taken: Vec<File> = vec![];
        let mut free: Vec<_> = files.to_vec();
        Wait::until(format!("a turn of the tests ({})", self.name))
            .within(LONGEST)
            .poll(|| {
                let mut look = || -> anyhow::Result<Seen<()>> {
                    let mut busy = vec![];
                    for path in free.drain(..) {
                        match (taken.len() < count).then(|| lock(&path)).transpose()? {
                            Some(Some(file)) => taken.push(file),
                            _ => busy.push(path),
                        }
                    }
                    free = busy;
                    Ok(if taken.len() == count {
                        Seen::Ready(())
                    } else {
                        Seen::Waiting(format!("{} of {count} places", taken.len()))
                    })
                };
                std::future::ready(look())
            })
            .await?;
        Ok(taken)
    }

    /// Beside those of other checkouts and other users, which have turns of their own.
    fn file(&self, what: &str) -> anyhow::Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        workspace_root()?.hash(&mut hasher);
        let user = rustix::process::getuid().as_raw();
        let name = format!(
            "ferry-tests-{user}-{:016x}-{}-{what}.lock",
            hasher.finish(),
            self.name
        );
        Ok(std::env::temp_dir().join(name))
    }
}

/// The lock of a file; `None` while another test has it.
fn lock(path: &PathBuf) -> anyhow::Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open `{}`", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock `{}`", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_place_is_taken_until_it_is_given_back() {
        let turns = Turns::new("unit-two", 2);
        let one = turns.take().await.unwrap();
        let other = turns.take().await.unwrap();
        let third = turns.take();
        tokio::pin!(third);
        assert!(poll!(&mut third).is_pending());
        drop(one);
        drop(third.await.unwrap());
        drop(other);
        drop(turns.take_many(9).await.unwrap());
    }

    #[tokio::test]
    async fn waiter_for_all_places_precedes_later_ones() {
        let turns = Turns::new("unit-all", 2);
        let one = turns.take().await.unwrap();
        let all = turns.take_many(2);
        tokio::pin!(all);
        assert!(poll!(&mut all).is_pending());
        let later = turns.take();
        tokio::pin!(later);
        assert!(poll!(&mut later).is_pending());
        drop(one);
        let all = all.await.unwrap();
        assert!(poll!(&mut later).is_pending());
        drop(all);
        drop(later.await.unwrap());
    }
}
