//! What a sink keeps its messages on.

use rstest::rstest;

use super::{assert_problems, parse, with};
use crate::Storage;

fn of_the_sink(storage: &str) -> String {
    with(&[(18, &format!("    port: 30300\n    storage: {storage}"))])
}

#[rstest]
#[case::nothing_said("{}", Storage::default())]
#[case::size("{size: 10Gi}", Storage { size: Some("10Gi".into()), ..Storage::default() })]
#[case::least_size("{size: 4Gi}", Storage { size: Some("4Gi".into()), ..Storage::default() })]
#[case::bytes("{size: '5368709120'}", Storage { size: Some("5368709120".into()), ..Storage::default() })]
#[case::class("{class: fast.ssd}", Storage { class: Some("fast.ssd".into()), ..Storage::default() })]
#[case::ephemeral("{ephemeral: true}", Storage { ephemeral: true, ..Storage::default() })]
#[case::not_ephemeral("{ephemeral: false, size: 8G}", Storage { size: Some("8G".into()), ..Storage::default() })]
fn what_is_said_of_storage_is_read(#[case] text: &str, #[case] expected: Storage) {
    let blueprint = parse(&of_the_sink(text)).unwrap();
    assert_eq!(blueprint.pod("end").unwrap().storage, Some(expected));
    assert_eq!(blueprint.pod("relay").unwrap().storage, None);
}

#[rstest]
#[case::unknown_key("{siez: 10Gi}", &["19: unknown key `siez` in `storage`; did you mean `size`?"])]
#[case::text("10Gi", &["19: `storage` must be a mapping of keys to values, not text `10Gi`; write it as lines like `size: 10Gi`"])]
#[case::no_quantity("{size: 10GB}", &["19: `size` must be a quantity of Kubernetes, not `10GB`; write for example `size: 10Gi`"])]
#[case::number("{size: 5368709120}", &["19: `size` must be text, not a number `5368709120`; put it in quotes"])]
#[case::too_small("{size: 4095Mi}", &["19: `size` is `4095Mi`, less than twice what a sink keeps at most; write at least `size: 4Gi`"])]
#[case::no_class("{class: Fast_SSD}", &["19: `class` must be the name of a storage class, not `Fast_SSD`; `kubectl get storageclass` lists those of a cluster"])]
#[case::ephemeral_yes("{ephemeral: yes}", &["19: `ephemeral` must be `true` or `false`, not `yes`; write for example `ephemeral: true`"])]
#[case::all_at_once("{size: 1Gi, class: -a, ephemeral: true}", &[
    "19: `size` is `1Gi`, less than twice what a sink keeps at most; write at least `size: 4Gi`",
    "19: `class` must be the name of a storage class, not `-a`; `kubectl get storageclass` lists those of a cluster",
    "19: pod `end` is `ephemeral` and has no claim that `size` could be of; remove one of the two",
    "19: pod `end` is `ephemeral` and has no claim that `class` could be of; remove one of the two",
])]
fn what_is_wrong_with_storage_is_said(#[case] text: &str, #[case] expected: &[&str]) {
    assert_problems(&of_the_sink(text), expected);
}

#[test]
fn only_a_sink_has_storage() {
    let text = with(&[
        (10, "    port: 30100\n    storage: {}"),
        (14, "    port: 30200\n    storage: {size: 10Gi}"),
    ]);
    assert_problems(
        &text,
        &[
            "11: pod `gate` is a gateway and stores nothing; remove `storage`",
            "16: pod `relay` is a processor and stores nothing; remove `storage`",
        ],
    );
}

/// A StatefulSet labels its pod with its own name, a hyphen and a hash of ten characters.
#[test]
fn the_name_of_a_sink_leaves_room_for_a_hash() {
    let named = |count: usize| {
        let name = "s".repeat(count);
        with(&[
            (2, "name: t"),
            (15, &format!("  - name: {name}")),
            (23, &format!("    to: [{name}]")),
        ])
    };
    assert_problems(&named(52), &[]);
    let name = "s".repeat(53);
    assert_problems(
        &named(53),
        &[&format!(
            "15: label `controller-revision-hash` `{name}-4294967295` of pod `{name}` has 64 characters, more than 63; \
             shorten the name of the pod or of the blueprint by 1"
        )],
    );
}
