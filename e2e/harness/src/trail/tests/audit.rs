//! What an auditor sees who has the roots and nothing else.

use proptest::prelude::*;

use super::*;
use crate::trail::{Evidence, Scene, audit};

impl World {
    /// What is wrong, as (index, hop, problem); `scene` as an environment would know it.
    fn wrong(
        &self,
        output: &[StoredMessage],
        scene: Option<&Scene>,
    ) -> Vec<(u64, Option<usize>, &'static str)> {
        let audit = audit(output, &self.roots(), scene).unwrap();
        assert_eq!(audit.messages, output.len());
        let findings = audit.findings.iter();
        findings
            .map(|finding| (finding.index, finding.hop, finding.problem))
            .collect()
    }

    fn scene(&self) -> Scene {
        Scene {
            sink: self.stations[2].0.name.clone(),
            routes: vec![self.route(&[0, 1, 2])],
        }
    }
}

#[test]
fn good_output_passes_without_environment_too() {
    let world = World::new();
    let output = world.output(3);
    assert_eq!(world.wrong(&output, None), []);
    assert_eq!(world.wrong(&output, Some(&world.scene())), []);
    // The oldest messages may be gone from a sink that holds many.
    assert_eq!(world.wrong(&output[1..], None), []);
}

#[test]
fn each_way_to_tamper_with_a_hop_is_named() {
    let world = World::new();
    let stranger = World::new();
    type Tamper<'a> = &'a dyn Fn(&mut Vec<StoredMessage>);
    // The message's number, its hop and the word for what happened to it.
    type Finding = (u64, Option<usize>, &'static str);
    let trail = |output: &mut Vec<StoredMessage>, change: &dyn Fn(&mut Vec<Hop>)| {
        change(&mut output[1].message.trail);
    };
    let cases: [(Tamper<'_>, Finding); 14] = [
        (
            &|all| trail(all, &|trail| trail[1].node = "x".into()),
            (2, Some(2), "altered"),
        ),
        (
            &|all| trail(all, &|trail| trail[1].at = trail[0].at),
            (2, Some(2), "altered"),
        ),
        (
            &|all| {
                let foreign = all[0].message.trail[1].signature.clone();
                let (_, bytes) = foreign.rsplit_once('.').unwrap();
                trail(all, &|trail| {
                    let (header, _) = trail[1].signature.rsplit_once('.').unwrap();
                    trail[1].signature = format!("{header}.{bytes}");
                });
            },
            (2, Some(2), "forged"),
        ),
        (
            &|all| trail(all, &|trail| drop(trail.remove(1))),
            (2, Some(2), "dropped"),
        ),
        (
            &|all| trail(all, &|trail| drop(trail.remove(0))),
            (2, Some(1), "dropped"),
        ),
        (
            &|all| trail(all, &|trail| drop(trail.pop())),
            (2, None, "incomplete"),
        ),
        (
            &|all| trail(all, &|trail| trail.swap(1, 2)),
            (2, Some(2), "reordered"),
        ),
        (
            &|all| trail(all, &|trail| trail.insert(1, trail[0].clone())),
            (2, Some(2), "repeated"),
        ),
        (
            &|all| trail(all, &|trail| trail.clear()),
            (2, None, "incomplete"),
        ),
        (
            &|all| all[1].message.trail = all[0].message.trail.clone(),
            (2, Some(1), "replayed"),
        ),
        (
            &|all| all[1].message.id = Uuid::now_v7(),
            (2, Some(1), "replayed"),
        ),
        (
            &|all| all[1].message.trail[2] = stranger.output(1)[0].message.trail[2].clone(),
            (2, Some(3), "replayed"),
        ),
        (&|all| drop(all.remove(1)), (3, None, "messages-missing")),
        (
            &|all| {
                let mut again = all[0].clone();
                again.index = 2;
                all[1] = again;
            },
            (2, None, "stored-twice"),
        ),
    ];
    for (number, (tamper, expected)) in cases.into_iter().enumerate() {
        let mut output = world.output(3);
        tamper(&mut output);
        let wrong = world.wrong(&output, None);
        assert_eq!(wrong.first(), Some(&expected), "case {number}: {wrong:?}");
        let indexes = wrong.iter().map(|(index, ..)| *index);
        assert!(
            indexes.into_iter().all(|index| index == expected.0),
            "case {number} must blame one message only: {wrong:?}"
        );
    }
}

#[test]
fn finding_names_message_hop_pod_and_fault() {
    let world = World::new();
    let mut output = world.output(2);
    output[1].message.trail[2].node = "elsewhere".into();
    let id = short(output[1].message.id);
    let audit = audit(&output, &world.roots(), None).unwrap();
    assert_eq!(
        (audit.messages, audit.hops, audit.findings.len()),
        (2, 6, 1)
    );
    assert_eq!(
        audit.findings[0].to_string(),
        format!(
            "seq 2 ({id}), hop 3 (`sink-1`): altered: its fields are not the ones that sink.cluster-c.international-ferry.ferry.internal signed"
        )
    );
}

#[test]
fn other_root_blueprint_and_order_are_named() {
    let (world, stranger) = (World::new(), World::new());
    let foreign = stranger.output(1);
    assert_eq!(world.wrong(&foreign, None).len(), 3, "every hop is broken");
    assert_eq!(world.wrong(&foreign, None)[0], (1, Some(1), "other-root"));
    let both = [world.roots(), stranger.roots()].concat();
    assert_eq!(audit(&foreign, &both, None).unwrap().findings, []);

    let mut output = world.output(2);
    output[0].message.blueprint = "harbour-ferry".into();
    output[1].stored_at = "2020-01-01T00:00:00Z".parse().unwrap();
    let wrong = [(1, None, "other-blueprint")];
    assert_eq!(world.wrong(&output, None), wrong);
    let mut output = world.output(2);
    output.swap(0, 1);
    assert_eq!(world.wrong(&output, None)[0], (1, None, "out-of-order"));
    assert_eq!(
        Failure::exit_code(&audit(&output, &[], None).unwrap_err()),
        2
    );
}

#[test]
fn an_environment_knows_its_sink_and_its_routes() {
    let world = World::new();
    let short = store([world.message(1, &[0, 2], |_, _| {})]);
    assert_eq!(world.wrong(&short, None), []);
    let wrong = world.wrong(&short, Some(&world.scene()));
    assert_eq!(wrong, [(1, None, "other-route")]);
    let elsewhere = Scene {
        sink: world.stations[1].0.name.clone(),
        ..world.scene()
    };
    let wrong = world.wrong(&world.output(1), Some(&elsewhere));
    assert_eq!(wrong, [(1, None, "incomplete")]);
}

fn lines(output: &[StoredMessage]) -> String {
    let line = |stored| serde_json::to_string(stored).unwrap() + "\n";
    output.iter().map(line).collect()
}

#[test]
fn evidence_is_read_from_plain_and_named_lines() {
    let world = World::new();
    let output = world.output(3);
    let plain = Evidence::parse_all(&lines(&output)).unwrap();
    assert_eq!(plain.len(), 1);
    assert_eq!((&plain[0].sink, &plain[0].output), (&None, &output));
    let named: String = output
        .iter()
        .zip(["sink", "other", "sink"])
        .map(|(stored, sink)| {
            let stored = serde_json::to_string(stored).unwrap();
            format!("{{\"sink\":\"{sink}\",\"cluster\":\"c\",\"stored\":{stored}}}\n")
        })
        .collect();
    let named = Evidence::parse_all(&named).unwrap();
    assert_eq!(named.len(), 2);
    assert_eq!(named[0].sink, Some(("sink".into(), "c".into())));
    assert_eq!(named[0].output, [output[0].clone(), output[2].clone()]);
    let error = Evidence::parse_all("\n{\"stored\": \u{1b}[2J}").unwrap_err();
    assert!(error.to_string().starts_with("line 2"), "{error}");
    assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
}

#[test]
fn damaged_output_neither_panics_nor_passes() {
    let world = World::new();
    let good = lines(&world.output(2));
    let output = StoredMessage::parse_all(&good).unwrap();
    proptest!(|(cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..8, "[ -~\u{e4}\n]{0,4}"), 1..4))| {
        let mut text = good.clone();
        for (at, length, replacement) in cuts {
            let mut at = at.index(text.len());
            let mut end = (at + length).min(text.len());
            while !text.is_char_boundary(at) { at -= 1; }
            while !text.is_char_boundary(end) { end += 1; }
            text.replace_range(at..end, &replacement);
        }
        match Evidence::parse_all(&text) {
            Ok(all) => for evidence in all {
                let audit = audit(&evidence.output, &world.roots(), None).unwrap();
                if audit.findings.is_empty() {
                    for stored in &evidence.output {
                        let same = |good: &&StoredMessage| good.message.id == stored.message.id
                            && good.message.trail == stored.message.trail;
                        prop_assert!(output.iter().any(|good| same(&good)), "accepted: {stored:?}");
                    }
                }
            },
            Err(error) => prop_assert!(error.to_string().starts_with("line "), "{error}"),
        }
    });
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader_of_outputs(text in any::<String>(), json in "([\\[\\]{},:\"a-e0-9 \n]|\"stored\":|\"message\":|\"trail\":|null){0,60}") {
        for text in [text, json] {
            let _ = StoredMessage::parse_all(&text);
            let _ = Evidence::parse_all(&text);
        }
    }
}
