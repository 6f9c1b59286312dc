//! The documents for other languages say what the code does.

use messages::limits::*;

use crate::independent;

const ASYNCAPI: &str = include_str!("../../docs/asyncapi.yaml");
const SIGNATURE: &str = include_str!("../../docs/signature.md");

#[track_caller]
fn assert_says(document: &str, text: &str) {
    assert!(document.contains(text), "the document must say `{text}`");
}

#[test]
fn asyncapi_has_the_limits_of_the_code() {
    assert_says(ASYNCAPI, &format!("maxItems: {MAX_TRAIL_HOPS}\n"));
    assert_says(ASYNCAPI, &format!("maxItems: {}\n", MAX_TRAIL_HOPS + 1));
    assert_says(ASYNCAPI, &format!("maxLength: {MAX_FIELD_BYTES}\n"));
    assert_says(ASYNCAPI, &format!("maxLength: {MAX_SIGNATURE_BYTES}\n"));
    assert_says(ASYNCAPI, "At most 1 MiB");
    assert_eq!(MAX_PAYLOAD_BYTES, 1 << 20);
    assert_says(ASYNCAPI, &format!("{MAX_PAYLOAD_DEPTH} levels deep"));
    assert_says(ASYNCAPI, "at most 1 KiB");
    assert_eq!(MAX_REASON_BYTES, 1 << 10);
    assert_says(ASYNCAPI, "over 8 MiB");
    assert_eq!(MAX_FRAME_BYTES, 8 << 20);
}

#[test]
fn signature_page_has_hash_of_empty_trail() {
    assert_says(SIGNATURE, &format!("`{}`", independent::before(&[])));
}

#[test]
fn signature_page_covers_all_vector_words() {
    let vectors: serde_json::Value =
        serde_json::from_str(&crate::golden::read("signature-vectors.json")).unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        for broken in case["broken"].as_array().into_iter().flatten() {
            assert_says(
                SIGNATURE,
                &format!("`{}`", broken["problem"].as_str().unwrap()),
            );
        }
    }
}
