//! Resource limits of this process and its children.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Limit on open files: several times what the Envoy of a pod takes from outside. Not as many as
/// the system
/// allows, which may be a thousand million: some programs look at each number that a file could have.
const ENOUGH: u64 = 65_536;

/// Lets this process, and those that it starts from now on, have many files open. Shells start with 1,024, for the sake of
/// programs that use select(2), and a pod takes more connections than that. Returns how many there may be now; `None` for no
/// limit.
///
/// # Errors
///
/// The system's error.
pub fn raise_open_files() -> std::io::Result<Option<u64>> {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(wanted);
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(limit.current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_may_be_open() {
        let most = getrlimit(Resource::Nofile).maximum;
        let wanted = most.map_or(ENOUGH, |most| most.min(ENOUGH));
        let now = raise_open_files().unwrap();
        assert!(now.is_none_or(|now| now >= wanted), "{now:?}");
        assert_eq!(getrlimit(Resource::Nofile).current, now);
    }
}
