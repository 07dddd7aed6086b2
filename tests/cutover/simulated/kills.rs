//! kill -9, at every single place where the engine can be: another machine without the journal then goes on or goes
//! back, and the record is always one that somebody asked for.

use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};
use proptest::prelude::*;

use crate::memory::Fault;
use crate::world::{World, failing, passing, path};

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

/// The way must be one step up at a time, a repetition of the present one, or back to blue.
#[track_caller]
fn only_what_was_asked_for(world: &World) {
    let path = path(world);
    for pair in path.windows(2) {
        let place = |share: &String| ORDER.iter().position(|known| known == share);
        let (from, to) = (place(&pair[0]), place(&pair[1]));
        let fine = matches!((from, to), (Some(from), Some(to)) if to <= from + 1);
        assert!(fine, "from {} to {} in {path:?}", pair[0], pair[1]);
    }
}

/// How many polls a whole run takes.
fn polls_of_a_run() -> u64 {
    let (mut low, mut high) = (1, 1 << 20);
    while low < high {
        let middle = (low + high) / 2;
        if World::with(SHORT).start().run_polls(middle).is_some() { high = middle } else { low = middle + 1 }
    }
    low
}

#[test]
fn killed_anywhere_another_machine_goes_on_to_the_end() {
    let polls = polls_of_a_run();
    assert!((100..20_000).contains(&polls), "{polls}");
    for killed_after in 1..polls {
        let world = World::with(SHORT);
        assert_eq!(world.start().run_polls(killed_after), None);
        let other = world.another_machine();
        let ended = match other.open(|start_context| start_context.resume(true, false)) {
            Ok(running) => running.end(),
            // Killed before the first write: nothing has begun.
            Err(_) => {
                assert_eq!(other.provider.held().marker_text, None, "after {killed_after} polls");
                other.start().end()
            }
        };
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Drained), "after {killed_after} polls");
        assert_eq!(path(&world), ORDER, "after {killed_after} polls");
    }
}

#[test]
fn killed_anywhere_another_machine_goes_back() {
    for killed_after in 1..polls_of_a_run() {
        let world = World::with(SHORT);
        world.start().run_polls(killed_after);
        let other = world.another_machine();
        assert_eq!(
            other.rollback().end(),
            EngineOutcome::Reached(CutoverPhase::RolledBack),
            "after {killed_after} polls"
        );
        assert_eq!(world.provider.held().share(), Some(Share::BLUE), "after {killed_after} polls");
        only_what_was_asked_for(&world);
    }
}

/// A world that stands at 10 % and bakes.
fn at_10_percent() -> World {
    let world = World::with(SHORT);
    world.start().with(async |mut anna| {
        anna.until_activity(10, Activity::Baking).await;
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    world
}

#[test]
fn killed_anywhere_while_it_goes_back_another_machine_ends_the_way_back() {
    let mut killed = 0;
    for polls in 1.. {
        let second = at_10_percent().another_machine();
        let ended = second.rollback().run_polls(polls);
        let third = second.another_machine();
        // Whoever comes next may say either; neither goes forward from there.
        let running = if polls % 2 == 0 { third.rollback() } else { third.resume() };
        let wanted = match (ended.is_some(), third.provider.held().share()) {
            // Killed before the write: somebody who resumes goes on.
            (false, Some(share)) if share > Share::BLUE && polls % 2 == 1 => CutoverPhase::Drained,
            _ => CutoverPhase::RolledBack,
        };
        assert_eq!(running.end(), EngineOutcome::Reached(wanted), "after {polls} polls");
        only_what_was_asked_for(&third);
        if ended.is_some() {
            break;
        }
        killed += 1;
    }
    assert!(killed > 10, "{killed}");
}

#[test]
fn killed_anywhere_while_it_finishes_the_record_is_greens() {
    let mut killed = 0;
    for polls in 1.. {
        let world = World::with(SHORT);
        assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
        let second = world.another_machine();
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
        let held = world.provider.held();
        assert_eq!((held.state, held.ttl, held.marker_text), (RecordState::Plain(Side::Green), 3_600, None));
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

    /// Faults, kills, a gate that may fail, and people who say what they like: the share is always one that somebody
    /// asked for, and a rollback always ends at blue.
    #[test]
    fn whatever_happens_no_share_stands_that_nobody_asked_for(
        faults in proptest::collection::vec(fault(), 0..12),
        kills in proptest::collection::vec(1_u64..1_500, 0..4),
        fails_at in proptest::option::of(0_usize..4),
        said in proptest::collection::vec((0_u64..1_500, 0_usize..7), 0..4),
    ) {
        let first = World::with(SHORT);
        let bad = fails_at.and_then(|at| ["1", "10", "100"].get(at)).map(|share| share.parse::<Share>().unwrap());
        first.gates(move |_, share, _| if Some(share) == bad { failing() } else { passing() });
        first.provider.fail(faults);
        let mut world = first.clone();
        let mut running = world.start();
        for polls in kills {
            if running.run_polls(polls).is_some() {
                break;
            }
            world = world.another_machine();
            running = match world.open(|start_context| start_context.resume(true, false)) {
                Ok(running) => running,
                Err(_) if world.provider.held().marker_text.is_none() => world.start(),
                Err(error) => panic!("{error}"),
            };
        }
        // Whatever it came to, people speak to a last machine, and one of them goes back.
        world = world.another_machine();
        if let Ok(running) = world.open(|start_context| start_context.resume(true, false)) {
            running.until_finished().with(async |anna| {
                for (seconds, command) in said {
                    anna.sleep(seconds).await;
                    let commands = [OperatorCommand::Pause, OperatorCommand::Resume, OperatorCommand::Promote { full: false }, OperatorCommand::Retry, OperatorCommand::Undo, OperatorCommand::Finish { force: false, accept_drift: false }, OperatorCommand::Finish { force: true, accept_drift: false }];
                    let Some(command) = commands.get(command).cloned() else { continue };
                    if anna.try_say(command).await.is_none() {
                        return;
                    }
                }
                anna.try_say(OperatorCommand::Rollback { reason: "enough".to_owned() }).await;
            });
        }
        only_what_was_asked_for(&first);
        let last = world.another_machine();
        prop_assert_eq!(last.rollback().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
        prop_assert_eq!(last.provider.held().share(), Some(Share::BLUE));
    }
}
