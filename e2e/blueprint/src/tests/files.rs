//! The schema, and the keys that the parser takes.

use super::*;

/// Where the project keeps its blueprints.
fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

/// The properties of a type in the schema, each with whether it is required.
fn properties(schema: &serde_json::Value) -> Vec<(String, bool)> {
    let none = vec![];
    let required = schema["required"].as_array().unwrap_or(&none);
    let properties = schema["properties"].as_object().unwrap();
    let mut properties: Vec<_> = properties
        .keys()
        .map(|name| (name.clone(), required.contains(&name.as_str().into())))
        .collect();
    properties.sort();
    properties
}

#[test]
fn the_schema_and_the_parser_know_the_same_keys() {
    let schema = schema();
    for (keys, of) in [
        (keys::BLUEPRINT_KEYS, &schema),
        (keys::POD_KEYS, &schema["definitions"]["Pod"]),
        (keys::STORAGE_KEYS, &schema["definitions"]["Storage"]),
        (keys::CONNECTION_KEYS, &schema["definitions"]["Connection"]),
        (keys::TARGET_KEYS, &schema["definitions"]["Targets"]),
        (keys::GKE_KEYS, &schema["definitions"]["GkeAddress"]),
        (keys::EKS_KEYS, &schema["definitions"]["EksAddress"]),
        (keys::AKS_KEYS, &schema["definitions"]["AksAddress"]),
        (keys::GENERIC_KEYS, &schema["definitions"]["GenericAddress"]),
    ] {
        let mut known: Vec<_> = keys
            .iter()
            .map(|key| (key.name.to_owned(), key.required))
            .collect();
        known.sort();
        assert_eq!(known, properties(of));
        assert_eq!(of["additionalProperties"], false);
    }
}

/// `FERRY_UPDATE=1` writes the file instead of comparing it.
#[test]
fn checked_in_schema_matches_types() {
    let path = manifests().join(SCHEMA_FILE_NAME);
    if std::env::var_os("FERRY_UPDATE").is_some() {
        std::fs::write(&path, schema_text()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == schema_text(),
        "{} is out of date: run `FERRY_UPDATE=1 cargo test -p blueprint schema`",
        path.display()
    );
}
