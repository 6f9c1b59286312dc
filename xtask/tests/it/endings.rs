//! Runs that are ended from outside, at many moments: nothing may stay.

use crate::bench::{Bench, Running, fixed_ports, turn};

const ONE: &str = "fast-international-ferry";

/// Goes on for `lines` lines of standard error; false where the run ended before.
fn let_run(running: &mut Running, lines: usize) -> bool {
    (0..lines).all(|_| running.next_line().is_some())
}

#[test]
fn a_killed_run_is_swept_whatever_the_moment() {
    let _turn = turn();
    let bench = Bench::new();
    for moment in 1.. {
        let mut running = bench.start(&["e2e", ONE]);
        let alive = let_run(&mut running, moment);
        running.child.kill().unwrap();
        running.finish();
        bench.run(&["sweep"]).assert_code(0);
        bench.assert_nothing_left();
        if !alive {
            assert!(
                moment > 4,
                "a run must have several moments, this one had {moment}"
            );
            break;
        }
    }
}

#[test]
fn ctrl_c_takes_everything_down_whatever_the_moment() {
    let _turn = turn();
    let bench = Bench::new();
    for (moment, signal, code) in [
        (1, "INT", 130),
        (2, "TERM", 143),
        (4, "INT", 130),
        (6, "HUP", 129),
    ] {
        let mut running = bench.start(&["e2e", ONE]);
        assert!(
            let_run(&mut running, moment),
            "the run must reach moment {moment}"
        );
        running.signal(signal);
        running.finish().assert_code(code);
        bench.assert_nothing_left();
    }
}

#[test]
fn a_second_ctrl_c_ends_the_run_at_once_and_leaves_nothing_either() {
    let _turn = turn();
    let bench = Bench::new();
    let mut running = bench.start(&["e2e", ONE]);
    assert!(let_run(&mut running, 5));
    running.signal("INT");
    running.signal("INT");
    running.finish().assert_code(130);
    bench.assert_nothing_left();
}

#[test]
fn an_interrupted_local_up_takes_down_what_it_made() {
    let _ports = fixed_ports();
    let _turn = turn();
    let bench = Bench::new();
    let mut running = bench.start(&["local-up"]);
    assert!(let_run(&mut running, 4));
    running.signal("INT");
    running.finish().assert_code(130);
    bench.assert_nothing_left();
}
