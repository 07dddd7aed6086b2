//! Gates: what fails goes back, what is unclear pauses, at any time and in every state.

use std::time::Duration;

use kongferry::cutover::clock::Clock;
use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::gates::measurement::{Measurement, Traffic};
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::Share;

use crate::memory::Fault;
use crate::world::{CONFIG, World, failing, passing, path};

/// The longest that any gate here waits between two checks.
const INTERVAL: Duration = Duration::from_secs(30);

#[test]
fn a_gate_that_fails_at_10_percent_rolls_back_by_itself() {
    let world = World::new();
    world.gates(
        |gate, share, _| {
            if gate == 0 && share == Share::percent(10).unwrap() { failing() } else { passing() }
        },
    );
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(path(&world), ["0 %", "1 %", "5 %", "10 %", "0 %"]);
    assert!(world.told().iter().any(|said| said.text == "Rolling back: gate errors: 7 %, must be ≤ 1 %"));
}

/// Brings a cutover into a state, lets a gate fail there, and says how long it took until blue stood at the provider.
fn fails_while(
    config: &str,
    state: impl Fn(&kongferry::cutover::status::StatusSnapshot) -> bool,
    pause: bool,
) -> Duration {
    let world = World::with(config);
    let mut took = Duration::ZERO;
    let ended = world.start().with(async |mut anna| {
        anna.until(&state).await;
        if pause {
            anna.say(OperatorCommand::Pause).await.unwrap();
            anna.sleep(7_200).await;
        }
        let failed = anna.now();
        world.gates(|_, _, _| failing());
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        took = anna.now() - failed;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(world.provider.held().share(), Some(Share::BLUE));
    took
}

#[test]
fn a_gate_that_fails_while_it_is_paused_rolls_back_within_an_interval() {
    let took = fails_while(
        CONFIG,
        |status| status.phase.activity() == Some(Activity::Baking) && status.step == Some(1),
        true,
    );
    assert!(took <= INTERVAL + Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_gate_that_fails_while_it_waits_for_approval_rolls_back_within_an_interval() {
    let config = format!("approval = true\n{CONFIG}");
    let took = fails_while(&config, |status| status.phase.activity() == Some(Activity::Approval), false);
    assert!(took <= INTERVAL + Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_gate_that_fails_while_it_drains_rolls_back_within_an_interval() {
    let took = fails_while(CONFIG, |status| status.state == "draining", false);
    assert!(took <= INTERVAL + Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_gate_that_fails_while_it_is_applying_rolls_back_within_an_interval() {
    let world = World::new();
    // The write of the second step takes ten minutes, and lands after the rollback.
    world.provider.fail([None, None, Some(Fault::Slow(600))]);
    let mut took = Duration::ZERO;
    let ended = world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Applying).await;
        let failed = anna.now();
        world.gates(|_, _, _| failing());
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        took = anna.now() - failed;
    });
    assert!(took <= INTERVAL + Duration::from_secs(5), "{took:?}");
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(world.provider.held().share(), Some(Share::BLUE));
}

#[test]
fn a_gate_that_fails_before_anything_goes_to_green_pauses() {
    let world = World::new();
    world.gates(|_, _, _| failing());
    world.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.share.weight, Share::BLUE);
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(path(&world), ["0 %"]);
}

#[test]
fn a_gate_may_choose_to_pause() {
    let world = World::with(&CONFIG.replace("max = 0.01", "max = 0.01\non_fail = \"pause\""));
    world.gates(|gate, share, _| if gate == 0 && share > Share::BLUE { failing() } else { passing() });
    world.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.share.weight, Share::percent(1).unwrap());
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
}

#[test]
fn what_cannot_be_judged_pauses_and_never_goes_on() {
    for why in ["no data", "the query returns NaN", "Prometheus did not answer"] {
        let world = World::new();
        world.gates(move |gate, share, _| {
            if gate == 0 && share > Share::BLUE { Measurement::inconclusive(why) } else { passing() }
        });
        world.start().with(async |mut anna| {
            let status = anna.until_state("paused").await;
            assert!(status.paused.unwrap().reason.contains(why));
            anna.sleep(20_000).await;
            let status = anna.until(|_| true).await;
            assert_eq!((status.state.as_str(), status.share.weight), ("paused", Share::percent(1).unwrap()));
            // Going on without an answer pauses again, at the same share.
            anna.say(OperatorCommand::Resume).await.unwrap();
            anna.until(|status| status.state == "step").await;
            anna.until_state("paused").await;
            anna.say(OperatorCommand::Leave).await.unwrap();
        });
        assert_eq!(path(&world), ["0 %", "1 %"]);
    }
}

#[test]
fn what_was_unclear_at_another_share_does_not_count_at_this_one() {
    let world = World::new();
    let (clock, written) = (world.clock.clone(), std::sync::Arc::new(std::sync::Mutex::new(None)));
    // Nothing is known of green before it gets traffic, and for fifty seconds after.
    world.gates(move |gate, share, now| {
        if share == Share::BLUE {
            return if gate == 0 { Measurement::inconclusive("no data") } else { passing() };
        }
        let first = *written.lock().unwrap().get_or_insert(now);
        if gate == 0 && now < first + Duration::from_secs(50) {
            Measurement::inconclusive("no data")
        } else {
            passing()
        }
    });
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    assert!(!world.was_notified("paused"));
    assert!(clock.now() > Duration::from_secs(86_400));
}

#[test]
fn a_gate_that_was_last_unclear_holds_the_step() {
    let world = World::with(&CONFIG.replace("max = 0.01", "max = 0.01\ninconclusive_limit = 1000000"));
    world.gates(|gate, share, _| {
        if gate == 0 && share > Share::BLUE { Measurement::inconclusive("no data") } else { passing() }
    });
    assert_eq!(world.start().run_for(Duration::from_secs(3 * 86_400)), None);
    assert_eq!(path(&world), ["0 %", "1 %"]);
}

#[test]
fn after_a_rollback_it_is_over_when_green_is_still() {
    let world = World::new();
    let clock = world.clock.clone();
    let failed_at = std::sync::Arc::new(std::sync::Mutex::new(None));
    let observed = failed_at.clone();
    world.gates(move |_, share, now| {
        if share == Share::percent(10).unwrap() {
            observed.lock().unwrap().get_or_insert(now);
            failing()
        } else {
            passing()
        }
    });
    let until = failed_at.clone();
    world.traffic(move |_, now| {
        let failed = *until.lock().unwrap();
        // Connections that were open are used for half an hour.
        let busy = failed.is_some_and(|failed| now < failed + Duration::from_secs(1_800));
        Traffic { blue: Some(90.0), green: Some(if busy { 2.0 } else { 0.0 }) }
    });
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
    let took = clock.now() - failed_at.lock().unwrap().expect("it failed");
    assert!((1_800..1_830).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn a_rollback_needs_no_counters() {
    let world = World::new();
    world.traffic(|_, _| Traffic::default());
    world.gates(|_, share, _| if share > Share::BLUE { failing() } else { passing() });
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert!(world.was_notified("not_counted"));
}
