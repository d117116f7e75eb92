//! Any plan of two ends, however odd, through every mode.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use tokio::runtime::Runtime;

use crate::support::lane::{Lane, MODES};
use crate::support::plan::{Ending, Plan, SMALL_BUFFER, Script, Step};

/// Plans of each mode.
const PLANS: u32 = 30;

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        3 => Just(1_usize),
        3 => 2_usize..5000,
        2 => prop_oneof![Just(16_384_usize), Just(16_385), Just(65_536), Just(65_537), Just(131_071)],
        1 => 1_usize..1_000_000,
    ];
    prop_oneof![
        8 => (size, 1_u32..4).prop_map(|(size, times)| Step::Write { size, times }),
        1 => (0_u64..4).prop_map(|pause| Step::Pause(Duration::from_millis(pause))),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let ending = prop_oneof![6 => Just(Ending::Finish), 1 => Just(Ending::Reset), 1 => Just(Ending::FinishThenReset)];
    let stall = (0_u64..200_000, 0_u64..20).prop_map(|(place, pause)| (place, Duration::from_millis(pause)));
    let read_size = prop_oneof![Just(1_000_000_usize), Just(65_536), 1_usize..5000];
    let receive_buffer = prop_oneof![2 => Just(None), 1 => Just(Some(SMALL_BUFFER))];
    (vec(step(), 0..10), ending, vec(stall, 0..3), read_size, receive_buffer).prop_map(
        |(steps, ending, mut stalls, read_size, receive_buffer)| {
            stalls.sort_unstable();
            Script { steps, ending, read_size, receive_buffer, stalls }
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    (any::<u64>(), script(), script()).prop_map(|(seed, client, server)| Plan { seed, client, server })
}

#[test]
fn whatever_the_ends_do() {
    through_every_mode("");
}

/// Little of everything, so that nothing goes in one piece.
const NARROW: &str = "memory_mib = 1\nbandwidth = 100000000";
const NARROW_TCP: &str = "[tcp]\nsend_buffer = 16384\nreceive_buffer = 200000\nnodelay = false";

#[test]
fn whatever_the_ends_do_through_narrow_buffers() {
    through_every_mode(&format!("{NARROW}\n{NARROW_TCP}"));
}

fn through_every_mode(top: &str) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    for mode in MODES {
        let lane = Lane::open(mode, top);
        let holdings = lane.holdings();
        let config = Config { cases: PLANS, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(&plan(), |plan| {
            let ran = runtime.block_on(async {
                let (client, server) = lane.connect().await.map_err(|error| error.to_string())?;
                plan.run(client, server, lane.rules).await
            });
            ran.map(drop).map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(fault, plan)) => panic!("{mode:?}: {fault}\n{plan:#?}"),
            Err(error) => panic!("{mode:?}: {error}"),
        }
        lane.holds_no_more_than(&holdings);
    }
}
