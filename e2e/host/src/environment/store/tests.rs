use super::*;

fn draft() -> Draft {
    Draft {
        runtime: RuntimeKind::Embedded,
        owner: ProcessId::current(),
        blueprints: BTreeMap::new(),
        settings: BTreeMap::new(),
    }
}

fn store() -> (tempfile::TempDir, Store, Name) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("state"));
    (folder, store, "local".parse().unwrap())
}

#[test]
fn an_environment_is_found_again() {
    let (_folder, store, name) = store();
    let lock = store.try_lock(&name).unwrap().unwrap();
    let mut made = store.create(&lock, draft()).unwrap();
    made.record.owner = None;
    made.save().unwrap();
    let found = store.load(&name).unwrap();
    assert_eq!(found.record.owner, None);
    assert_eq!(found.layout().root(), made.layout().root());
    assert_eq!(store.list().unwrap().len(), 1);
    found.layout().remove().unwrap();
    assert!(!store.has(&name));
}

#[test]
fn a_name_is_given_once() {
    let (_folder, store, name) = store();
    let lock = store.try_lock(&name).unwrap().unwrap();
    store.create(&lock, draft()).unwrap();
    let error = store.create(&lock, draft()).unwrap_err();
    assert_eq!(error.to_string(), "environment `local` already exists");
    assert_eq!(Failure::exit_code(&error), 2);
}

#[test]
fn absent_environment_lists_others() {
    let (_folder, store, name) = store();
    let hint = |error: &anyhow::Error| Failure::of(error).unwrap().next_step().unwrap().to_owned();
    assert!(hint(&store.load(&name).unwrap_err()).contains("local-up"));
    let lock = store.try_lock(&name).unwrap().unwrap();
    store.create(&lock, draft()).unwrap();
    let error = store.load(&"other".parse().unwrap()).unwrap_err();
    assert_eq!(hint(&error), "pass one of `local`");
    assert_eq!(Failure::exit_code(&error), 2);
}

#[test]
fn another_schema_version_is_refused_by_name() {
    let (_folder, store, name) = store();
    let lock = store.try_lock(&name).unwrap().unwrap();
    let made = store.create(&lock, draft()).unwrap();
    fs::write(made.layout().record(), r#"{"schema_version": 99}"#).unwrap();
    let error = store.load(&name).unwrap_err().to_string();
    assert!(
        error.contains("has schema version 99, this Ferry reads 2 and older"),
        "{error}"
    );
    let found = store.list().unwrap();
    assert!(matches!(
        &found[..],
        [Found::Broken {
            damage: Damage::Newer,
            ..
        }]
    ));
}

#[test]
fn version_1_record_is_read_and_upgraded() {
    let (_folder, store, name) = store();
    let lock = store.try_lock(&name).unwrap().unwrap();
    let made = store.create(&lock, draft()).unwrap();
    fs::write(
        made.layout().record(),
        include_str!("../golden/environment.1.json"),
    )
    .unwrap();
    let found = store.load(&name).unwrap();
    assert_eq!(found.record.pods.len(), 2);
    found.save().unwrap();
    let text = fs::read_to_string(made.layout().record()).unwrap();
    assert!(text.contains("\"schema_version\": 2"), "{text}");
}

#[test]
fn pids_of_other_boot_or_machine_are_ignored() {
    let (_folder, store, name) = store();
    let lock = store.try_lock(&name).unwrap().unwrap();
    let mut made = store.create(&lock, draft()).unwrap();
    assert!(made.is_here().is_ok());
    let here = Seat::here().clone();
    for (seat, place) in [
        (
            Seat {
                boot: "other".into(),
                ..here.clone()
            },
            None,
        ),
        (
            Seat {
                pid_namespace: "pid:[1]".into(),
                ..here.clone()
            },
            Some("PID namespace"),
        ),
        (
            Seat {
                boot: "other".into(),
                host: "ferry-7".into(),
                ..here.clone()
            },
            Some("on host `ferry-7`"),
        ),
    ] {
        // A machine without an identifier is never sure to be the same after a start.
        if place.is_none() && here.machine.is_empty() {
            continue;
        }
        made.record.seat = Some(seat);
        made.save().unwrap();
        let found = store.load(&name).unwrap();
        assert!(!found.record.owner.unwrap().is_running());
        match (place, found.is_here()) {
            (None, here) => here.unwrap(),
            (Some(place), here) => {
                let error = here.unwrap_err();
                assert_eq!(Failure::exit_code(&error), 2);
                assert!(error.to_string().contains(place), "{error}");
            }
        }
    }
}

#[test]
fn damaged_record_is_refused_by_file_name() {
    let (_folder, store, name) = store();
    let lock = store.try_lock(&name).unwrap().unwrap();
    let path = store.create(&lock, draft()).unwrap().layout().record();
    let good = fs::read(&path).unwrap();
    proptest::proptest!(|(at: proptest::sample::Index, bytes: [u8; 2], length in 0_usize..9)| {
        let at = at.index(good.len());
        let mut damaged = good.clone();
        damaged.splice(at..(at + length).min(good.len()), bytes);
        fs::write(&path, damaged).unwrap();
        if let Err(error) = store.load(&name) {
            let said = format!("{error:#}");
            proptest::prop_assert!(said.contains("environment.json"), "{said}");
        }
    });
}

#[test]
fn a_folder_without_a_record_is_listed_as_broken() {
    let (_folder, store, _) = store();
    fs::create_dir_all(store.root().join("half")).unwrap();
    fs::write(store.root().join("local.lock"), b"").unwrap();
    let found = store.list().unwrap();
    assert!(matches!(&found[..], [Found::Broken { name, .. }] if name.as_str() == "half"));
}

#[test]
fn deployments_are_not_kept_where_builds_are() {
    let root = |set: &[(&str, &str)]| {
        let variable = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Store::deployed_in(variable).map(|store| store.root().display().to_string())
    };
    let home = ("HOME", "/home/x");
    assert_eq!(root(&[home]).unwrap(), "/home/x/.local/state/ferry");
    assert_eq!(root(&[home, ("XDG_STATE_HOME", "/s")]).unwrap(), "/s/ferry");
    let relative = [home, ("XDG_STATE_HOME", "s"), (STATE_VARIABLE, "")];
    assert_eq!(root(&relative).unwrap(), "/home/x/.local/state/ferry");
    assert_eq!(root(&[home, (STATE_VARIABLE, "/mine")]).unwrap(), "/mine");
    assert_eq!(root(&[]), None);
}
