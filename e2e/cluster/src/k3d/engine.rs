//! Compatibility of k3d and Docker versions: an engine drops old API versions, and a k3d
//! release knows none newer than itself. Does no I/O.

use host::docker::{ApiVersion, Engine};

type Version = (u32, u32, u32);

/// From this k3d on → the newest version of the interface that it speaks, which is that of Docker's client library in its
/// `go.mod`: <https://github.com/k3d-io/k3d/blob/v5.9.0/go.mod>, and so for each tag. Library 20.10 speaks 1.41, 23.0 1.42,
/// 24.0 1.43, 26.0 1.45, 27.0 1.46, 28.5 1.51: <https://docs.docker.com/reference/api/engine/#api-version-matrix>
const NEWEST_API: [(Version, ApiVersion); 6] = [
    ((5, 0, 0), ApiVersion(1, 41)),
    ((5, 4, 9), ApiVersion(1, 42)),
    ((5, 5, 2), ApiVersion(1, 43)),
    ((5, 6, 1), ApiVersion(1, 45)),
    ((5, 7, 0), ApiVersion(1, 46)),
    ((5, 9, 0), ApiVersion(1, 51)),
];

/// Why this k3d cannot speak to the engine; `None` where it can. A k3d that is newer than all of them is taken to.
pub fn too_old_for(k3d: Version, engine: &Engine) -> Option<String> {
    let is_newer = NEWEST_API.last().is_some_and(|(last, _)| k3d > *last);
    let (_, newest) = NEWEST_API.iter().rfind(|(since, _)| k3d >= *since)?;
    if is_newer || *newest >= engine.oldest_api {
        return None;
    }
    let (major, minor, patch) = k3d;
    let enough = NEWEST_API
        .iter()
        .find(|(_, speaks)| *speaks >= engine.oldest_api)
        .map_or_else(
            || "a later one may".to_owned(),
            |((major, minor, patch), _)| format!("k3d {major}.{minor}.{patch} and later do"),
        );
    Some(format!(
        "version {major}.{minor}.{patch} is too old for Docker {}: it speaks Docker's API up to {newest}, the engine takes {} and later; {enough}",
        engine.info.server_version, engine.oldest_api
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::docker::Info;

    fn engine(version: &str, oldest_api: ApiVersion) -> Engine {
        Engine {
            info: Info {
                server_version: version.into(),
                ..Info::default()
            },
            oldest_api,
        }
    }

    #[test]
    fn a_k3d_that_the_engine_gave_up_is_named() {
        let new = engine("29.1.0", ApiVersion(1, 44));
        let why = too_old_for((5, 6, 0), &new).unwrap();
        assert_eq!(
            why,
            "version 5.6.0 is too old for Docker 29.1.0: it speaks Docker's API up to 1.43, the engine takes 1.44 and later; k3d 5.6.1 and later do"
        );
        for old in [(5, 0, 0), (5, 4, 9), (5, 5, 2)] {
            assert!(too_old_for(old, &new).is_some(), "{old:?}");
        }
        for enough in [(5, 6, 1), (5, 8, 3), (5, 9, 0), (5, 10, 0), (6, 0, 0)] {
            assert_eq!(too_old_for(enough, &new), None, "{enough:?}");
        }
        let set_back = engine("29.1.0", ApiVersion(1, 24));
        assert_eq!(too_old_for((5, 6, 0), &set_back), None);
        let newest = engine("35.0.0", ApiVersion(1, 60));
        assert!(
            too_old_for((5, 9, 0), &newest)
                .unwrap()
                .ends_with("a later one may")
        );
        assert_eq!(too_old_for((5, 10, 0), &newest), None);
    }
}
