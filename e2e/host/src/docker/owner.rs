//! Which environment a container belongs to: labels of every node.

use std::path::{Path, PathBuf};

use super::Container;

/// Label of every node: the name of the environment.
pub const ENVIRONMENT_LABEL: &str = "ferry.environment";
/// Label of every node: the environment's state folder; bytes other than letters, digits and `/._-` are `%XX`.
pub const STATE_LABEL: &str = "ferry.state";

/// To whom a cluster belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub environment: String,
    /// The environment's state folder, absolute.
    pub state: PathBuf,
}

impl Owner {
    /// `key=value` for each node.
    pub fn labels(&self) -> [String; 2] {
        [
            format!("{ENVIRONMENT_LABEL}={}", self.environment),
            format!("{STATE_LABEL}={}", encode(&self.state)),
        ]
    }

    /// Whose this container is; `None` where it is none of Ferry's.
    pub fn of(container: &Container) -> Option<Self> {
        Some(Self {
            environment: container.label(ENVIRONMENT_LABEL)?.into(),
            state: decode(container.label(STATE_LABEL)?),
        })
    }
}

/// A path as a label's value: k3d splits its labels at `@`, `;` and `=`.
fn encode(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str()
        .as_bytes()
        .iter()
        .fold(String::new(), |text, byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                text + &char::from(*byte).to_string()
            }
            _ => text + &format!("%{byte:02X}"),
        })
}

fn decode(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail
            .get(..2)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_round_trips_through_its_label() {
        for path in ["/w/target/ferry/local", "/home/ä b/x@y;z=%41%", "/%"] {
            let label = encode(Path::new(path));
            assert!(!label.contains(['@', ';', '=', ' ']), "{label}");
            assert_eq!(decode(&label), Path::new(path));
        }
    }
}
