//! kill -9 at every poll of the engine: another machine without the journal then resumes or rolls back, and every share
//! is one that was planned.

use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};
use proptest::prelude::*;

use crate::memory_provider::Fault;
use crate::simulation::{Simulation, failing, passing, shares_held};

/// One step after the other, both gates looked at seldom, so that every place is reached in few polls.
const SHORT: &str = r#"
zone = "example.test"
ttl = 30
check_every = "1m"
settle_limit = "10m"
drain = { time = "2m" }

[provider]
kind = "powerdns"
url = "http://127.0.0.1:9"
api_key = { env = "NOT_THERE" }

[[record]]
name = "api.example.test"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]

[prometheus]
url = "http://127.0.0.1:9"

[[step]]
share = 1
bake = "2m"
[[step]]
share = 10
bake = "2m"
[[step]]
share = 100
bake = "2m"

[[gate]]
name = "probe"
kind = "http"
interval = "1m"
url = "http://127.0.0.1:9/"
"#;

const ORDER: [&str; 4] = ["0 %", "1 %", "10 %", "100 %"];

/// Each change of the share is one step up, or back to blue.
#[track_caller]
fn assert_only_planned_shares(simulation: &Simulation) {
    let path = shares_held(simulation);
    for pair in path.windows(2) {
        let place = |share: &String| ORDER.iter().position(|known| known == share);
        let (from, to) = (place(&pair[0]), place(&pair[1]));
        let fine = matches!((from, to), (Some(from), Some(to)) if to <= from + 1);
        assert!(fine, "from {} to {} in {path:?}", pair[0], pair[1]);
    }
}

/// How many polls a whole run takes.
fn count_polls() -> u64 {
    let (mut low, mut high) = (1, 1 << 20);
    while low < high {
        let middle = (low + high) / 2;
        if Simulation::with(SHORT).start().run_polls(middle).is_some() {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[test]
fn after_a_kill_at_any_poll_another_machine_completes_the_run() {
    let polls = count_polls();
    assert!((100..20_000).contains(&polls), "{polls}");
    for killed_after in 1..polls {
        let simulation = Simulation::with(SHORT);
        assert_eq!(simulation.start().run_polls(killed_after), None);
        let other = simulation.another_machine();
        let ended = match other.open(|start_context| start_context.resume(true, false)) {
            Ok(running) => running.end(),
            // Killed before the first write: nothing has begun.
            Err(_) => {
                assert_eq!(other.provider.stored().marker_text, None, "after {killed_after} polls");
                other.start().end()
            }
        };
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Drained), "after {killed_after} polls");
        assert_eq!(shares_held(&simulation), ORDER, "after {killed_after} polls");
    }
}

#[test]
fn after_a_kill_at_any_poll_another_machine_rolls_back() {
    for killed_after in 1..count_polls() {
        let simulation = Simulation::with(SHORT);
        simulation.start().run_polls(killed_after);
        let other = simulation.another_machine();
        assert_eq!(
            other.rollback().end(),
            EngineOutcome::Reached(CutoverPhase::RolledBack),
            "after {killed_after} polls"
        );
        assert_eq!(simulation.provider.stored().share(), Some(Share::BLUE), "after {killed_after} polls");
        assert_only_planned_shares(&simulation);
    }
}

/// A simulation that bakes at 10 %.
fn at_10_percent() -> Simulation {
    let simulation = Simulation::with(SHORT);
    simulation.start().with(async |mut anna| {
        anna.until_activity(10, Activity::Baking).await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    simulation
}

#[test]
fn after_a_kill_during_a_rollback_another_machine_completes_it() {
    let mut killed = 0;
    for polls in 1.. {
        let second = at_10_percent().another_machine();
        let ended = second.rollback().run_polls(polls);
        let third = second.another_machine();
        // Both commands of the next operator end the rollback.
        let running = if polls % 2 == 0 { third.rollback() } else { third.resume() };
        let wanted = match (ended.is_some(), third.provider.stored().share()) {
            // Killed before the write: resume continues.
            (false, Some(share)) if share > Share::BLUE && polls % 2 == 1 => CutoverPhase::Drained,
            _ => CutoverPhase::RolledBack,
        };
        assert_eq!(running.end(), EngineOutcome::Reached(wanted), "after {polls} polls");
        assert_only_planned_shares(&third);
        if ended.is_some() {
            break;
        }
        killed += 1;
    }
    assert!(killed > 10, "{killed}");
}

#[test]
fn after_a_kill_during_finish_the_record_is_greens() {
    let mut killed = 0;
    for polls in 1.. {
        let simulation = Simulation::with(SHORT);
        assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
        let second = simulation.another_machine();
        let ended = second
            .open(|start_context| start_context.finish(true, false))
            .expect("it finishes")
            .run_polls(polls);
        let third = second.another_machine();
        match third.open(|start_context| start_context.finish(true, false)) {
            Ok(running) => assert_eq!(
                running.end(),
                EngineOutcome::Reached(CutoverPhase::Finished),
                "after {polls} polls"
            ),
            // The write had landed.
            Err(error) => assert!(error.message().contains("all traffic goes to green"), "{error}"),
        }
        let stored = simulation.provider.stored();
        assert_eq!(
            (stored.state, stored.ttl, stored.marker_text),
            (RecordState::Plain(Side::Green), 3_600, None)
        );
        if ended.is_some() {
            break;
        }
        killed += 1;
    }
    assert!(killed > 2, "{killed}");
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(Fault::Throttled(3))),
        1 => Just(Some(Fault::Server)),
        1 => Just(Some(Fault::LostRequest)),
        1 => Just(Some(Fault::LostAnswer)),
        1 => (1_u64..40).prop_map(|seconds| Some(Fault::Slow(seconds))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Faults, kills, a gate that may fail, and any commands: every share is one that was planned, and a rollback always
    /// ends at blue.
    #[test]
    fn whatever_happens_no_share_stands_that_nobody_asked_for(
        faults in proptest::collection::vec(fault(), 0..12),
        kills in proptest::collection::vec(1_u64..1_500, 0..4),
        fails_at in proptest::option::of(0_usize..4),
        message in proptest::collection::vec((0_u64..1_500, 0_usize..7), 0..4),
    ) {
        let first = Simulation::with(SHORT);
        let bad = fails_at.and_then(|at| ["1", "10", "100"].get(at)).map(|share| share.parse::<Share>().unwrap());
        first.gates(move |_, share, _| if Some(share) == bad { failing() } else { passing() });
        first.provider.fail(faults);
        let mut simulation = first.clone();
        let mut running = simulation.start();
        for polls in kills {
            if running.run_polls(polls).is_some() {
                break;
            }
            simulation = simulation.another_machine();
            running = match simulation.open(|start_context| start_context.resume(true, false)) {
                Ok(running) => running,
                Err(_) if simulation.provider.stored().marker_text.is_none() => simulation.start(),
                Err(error) => panic!("{error}"),
            };
        }
        // Operators send commands to a last machine, and one of them rolls back.
        simulation = simulation.another_machine();
        if let Ok(running) = simulation.open(|start_context| start_context.resume(true, false)) {
            running.until_finished().with(async |anna| {
                for (seconds, command) in message {
                    anna.sleep(seconds).await;
                    let commands = [OperatorCommand::Pause, OperatorCommand::Resume, OperatorCommand::Promote { full: false }, OperatorCommand::Retry, OperatorCommand::Undo, OperatorCommand::Finish { force: false, accept_drift: false }, OperatorCommand::Finish { force: true, accept_drift: false }];
                    let Some(command) = commands.get(command).cloned() else { continue };
                    if anna.try_send(command).await.is_none() {
                        return;
                    }
                }
                anna.try_send(OperatorCommand::Rollback { reason: "enough".to_owned() }).await;
            });
        }
        assert_only_planned_shares(&first);
        let last = simulation.another_machine();
        prop_assert_eq!(last.rollback().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
        prop_assert_eq!(last.provider.stored().share(), Some(Share::BLUE));
    }
}
