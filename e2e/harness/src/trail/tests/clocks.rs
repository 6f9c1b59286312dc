//! Times are of several clocks: they are shown, and decide nothing.

use super::*;

#[test]
fn clocks_of_several_pods_decide_nothing() {
    let world = World::new();
    for behind in [-120_000_i64, -45_000, -20, -5, 5, 20, 9_000, 120_000] {
        let by = jiff::SignedDuration::from_millis(behind);
        let message = |seq| {
            world.message(seq, &[0, 1, 2], |number, hop| {
                if number == 1 {
                    hop.at = (hop.at.as_jiff() + by).into();
                }
            })
        };
        let mut output = store((1..=3).map(message));
        // The sink's clock was set between two messages.
        output[1].stored_at = (output[1].stored_at.as_jiff() + by).into();
        assert_eq!(world.problems(&world.numbered(3), &output), "", "{behind}");
        let audit = crate::trail::audit(&output, &world.roots(), None).unwrap();
        assert_eq!(audit.findings, [], "{behind}");
    }
}

#[test]
fn duration_comes_from_gateway_or_is_unknown() {
    let world = World::new();
    let output = world.output(2);
    let took = |expected| {
        let proof = check(&expected, &output, &world.roots()).unwrap();
        let rows = proof.rows();
        let json = serde_json::to_value(&proof).unwrap();
        (rows[1][4].clone(), json["messages"][1]["took_us"].clone())
    };
    assert_eq!(
        took(world.numbered(2)),
        ("2.0 ms".into(), serde_json::json!(2_000))
    );
    assert_eq!(
        took(world.listed(&output)),
        ("unknown".into(), serde_json::Value::Null)
    );
}
