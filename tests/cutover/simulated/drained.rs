//! From `drained` to `finish`: still watched, and finished only when blue is still and nothing was changed.

use std::time::Duration;

use kongferry::cutover::clock::Clock;
use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::environment::{DriftStatus, NameServerState};
use kongferry::cutover::gates::measurement::{Measurement, Traffic};
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};

use crate::world::{CONFIG, OperatorConsole, World, failing, lock, passing};

const FINISH: OperatorCommand = OperatorCommand::Finish { force: false, accept_drift: false };
const FORCED: OperatorCommand = OperatorCommand::Finish { force: true, accept_drift: false };

/// Runs a cutover that stays at work, with an operator who comes when it has drained.
fn drained<F: Future<Output = ()>>(
    world: &World,
    operator: impl FnOnce(OperatorConsole) -> F,
) -> EngineOutcome {
    world.start().until_finished().with(async |mut anna| {
        anna.until_state("drained").await;
        operator(anna).await;
    })
}

fn busy(world: &World, blue: Option<f64>) {
    world.traffic(move |_, _| Traffic { blue, green: Some(100.0) });
}

#[test]
fn it_stays_until_somebody_says_finish_and_then_finishes_and_ends() {
    let world = World::new();
    let ended = drained(&world, async |mut anna| {
        anna.sleep(3 * 86_400).await;
        let status = anna.until(|_| true).await;
        assert_eq!(status.sentence, "drained; \"kongferry cutover finish\" restores the TTL");
        assert_eq!(anna.say(FINISH).await.as_deref(), Ok("finished"));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    let held = world.provider.held();
    assert_eq!((held.state, held.ttl, held.marker_text), (RecordState::Plain(Side::Green), 3_600, None));
}

#[test]
fn a_gate_that_fails_after_the_drain_rolls_back_within_an_interval() {
    let world = World::new();
    let mut took = Duration::ZERO;
    let ended = drained(&world, async |mut anna| {
        anna.sleep(50_000).await;
        let failed = anna.now();
        world.gates(|_, _, _| failing());
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        took = anna.now() - failed;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert!(took <= Duration::from_secs(31), "{took:?}");
}

#[test]
fn a_person_goes_back_or_leaves_after_the_drain() {
    let world = World::new();
    let ended = drained(&world, async |anna| {
        assert!(anna.say(OperatorCommand::Pause).await.unwrap_err().starts_with("there is no step to pause"));
        anna.say(OperatorCommand::Rollback { reason: "enough".to_owned() }).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    let world = World::new();
    let ended = drained(&world, async |anna| drop(anna.say(OperatorCommand::Leave).await));
    assert_eq!(ended, EngineOutcome::Left);
    assert_eq!(world.provider.held().share(), Some(Share::GREEN));
    // What it drained before counts on, also for whoever goes on with it.
    let before = world.clock_hours();
    let ended = world.resume().until_finished().with(async |mut anna| {
        anna.until_state("drained").await;
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Left);
    assert!(world.clock_hours() - before < 0.2, "{}", world.clock_hours() - before);
}

#[test]
fn requests_on_blue_begin_the_drain_anew() {
    let world = World::new();
    let mut again = Duration::ZERO;
    let ended = drained(&world, async |mut anna| {
        busy(&world, Some(3.0));
        let status = anna.until_state("draining").await;
        assert!(status.events.iter().any(|event| event.notice.text
            == "Blue receives 3.00 requests per second again; the drain starts over"));
        assert!(anna.say(FINISH).await.unwrap_err().starts_with("blue has not been idle"));
        assert!(
            anna.say(OperatorCommand::Promote { full: false })
                .await
                .unwrap_err()
                .starts_with("blue receives")
        );
        anna.sleep(7_200).await;
        busy(&world, Some(0.0));
        let stopped = anna.now();
        anna.until_state("drained").await;
        again = anna.now() - stopped;
        anna.say(FINISH).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    assert!((86_400..86_430).contains(&again.as_secs()), "{again:?}");
}

#[test]
fn who_resumes_what_has_drained_drains_again_where_blue_is_asked() {
    let world = World::new();
    drained(&world, async |anna| drop(anna.say(OperatorCommand::Leave).await));
    busy(&world, Some(2.0));
    let ended = world.resume().until_finished().with(async |mut anna| {
        anna.until_state("draining").await;
        anna.sleep(3 * 86_400).await;
        assert_eq!(anna.until(|_| true).await.state, "draining");
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Left);
}

#[test]
fn finish_reads_blues_counter_again_in_the_process_that_watches() {
    for (blue, why) in
        [(Some(0.5), "blue receives 0.50 requests per second"), (None, "blue's requests cannot be counted")]
    {
        let world = World::new();
        let held = std::cell::RefCell::new(None);
        let ended = drained(&world, async |mut anna| {
            // Between two looks, so that nobody has seen it yet.
            anna.sleep(3).await;
            *held.borrow_mut() = Some(world.provider.held());
            busy(&world, blue);
            let said = anna.say(FINISH).await.unwrap_err();
            assert!(said.starts_with(why) && said.contains("--force"), "{said}");
            assert_eq!(Some(world.provider.held()), held.take());
            assert!(world.was_notified("not_finished"));
            let state = anna.until(|_| true).await.state;
            assert!(["drained", "draining"].contains(&state.as_str()), "{state}");
            assert_eq!(anna.say(FORCED).await.as_deref(), Ok("finished"));
        });
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    }
}

#[test]
fn finish_reads_blues_counter_again_in_a_process_of_its_own() {
    for (blue, why) in
        [(Some(0.5), "blue receives 0.50 requests per second"), (None, "blue's requests cannot be counted")]
    {
        let world = World::new();
        assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
        let held = world.provider.held();
        busy(&world, blue);
        let ended = world.open(|start_context| start_context.finish(false, true)).unwrap().end();
        assert!(matches!(&ended, EngineOutcome::NotFinished(said) if said.starts_with(why)), "{ended:?}");
        assert_eq!(world.provider.held(), held);
        let ended = world.open(|start_context| start_context.finish(true, false)).unwrap().end();
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    }
}

#[test]
fn what_cannot_be_judged_after_the_drain_is_said_once_and_holds_up_finish() {
    let world = World::new();
    let ended = drained(&world, async |mut anna| {
        world.gates(|gate, _, _| if gate == 0 { Measurement::inconclusive("no data") } else { passing() });
        anna.sleep(86_400).await;
        assert_eq!(anna.until(|_| true).await.state, "drained");
        let told =
            world.told().iter().filter(|said| said.text.contains("Gate errors is inconclusive")).count();
        assert_eq!(told, 1);
        let why = anna.say(FINISH).await.unwrap_err();
        assert!(why.starts_with("gate errors is inconclusive: no data"), "{why}");
        assert_eq!(world.provider.held().ttl, 30);
        assert_eq!(anna.say(FORCED).await.as_deref(), Ok("finished"));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
}

#[test]
fn a_gate_that_may_only_pause_holds_up_finish() {
    let world = World::with(&CONFIG.replace("max = 0.01", "max = 0.01\non_fail = \"pause\""));
    let ended = drained(&world, async |mut anna| {
        world.gates(|gate, _, _| if gate == 0 { failing() } else { passing() });
        anna.sleep(86_400).await;
        assert_eq!(anna.until(|_| true).await.state, "drained");
        assert!(anna.say(FINISH).await.unwrap_err().starts_with("gate errors fails"));
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Left);
}

#[test]
fn drift_is_looked_at_until_finish() {
    for state in ["draining", "drained"] {
        let world = World::new();
        let ended = world.start().until_finished().with(async |mut anna| {
            anna.until_state(state).await;
            *lock(&world.scripts.drift) = DriftStatus::Unknown("no blue".to_owned());
            anna.sleep(2 * 3_600).await;
            assert_eq!(anna.until(|_| true).await.state, state);
            assert!(world.told().iter().any(|said| said.text == "no blue"));
            *lock(&world.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
            let changed = anna.now();
            let status = anna.until_state("paused").await;
            assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("drift"));
            assert!(anna.now() - changed <= Duration::from_secs(3_610));
            // Whoever goes on without mending it does not get far.
            anna.say(OperatorCommand::Resume).await.unwrap();
            anna.sleep(60).await;
            assert_eq!(anna.until(|_| true).await.state, "paused");
            *lock(&world.scripts.drift) = DriftStatus::None;
            anna.say(OperatorCommand::Resume).await.unwrap();
            anna.until_state("drained").await;
            anna.say(FINISH).await.unwrap();
        });
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    }
}

#[test]
fn a_finish_that_was_refused_takes_no_pause_away() {
    let world = World::new();
    drained(&world, async |mut anna| {
        *lock(&world.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
        anna.until_state("paused").await;
        assert!(anna.say(FINISH).await.unwrap_err().starts_with("1 route is new on blue"));
        assert_eq!(anna.until(|_| true).await.state, "paused");
        let accepted = OperatorCommand::Finish { force: false, accept_drift: true };
        assert_eq!(anna.say(accepted).await.as_deref(), Ok("finished"));
    });
}

#[test]
fn records_and_answers_are_looked_at_after_the_drain() {
    let world = World::new();
    drained(&world, async |mut anna| {
        world.provider.set(|held| held.state = RecordState::Split { blue: 1, green: 1 });
        let status = anna.until_state("paused").await;
        assert!(status.paused.unwrap().reason.contains("the provider has 50 % to green"));
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    let world = World::new();
    let ended = drained(&world, async |anna| {
        // A finish that was refused changes nothing about that.
        busy(&world, None);
        anna.say(FINISH).await.unwrap_err();
        world.answers(|share, _| match share {
            Share::GREEN => NameServerState::Wrong("ns1 answers SERVFAIL".to_owned()),
            _ => NameServerState::Agree,
        });
        world.traffic(|_, _| Traffic { blue: Some(100.0), green: Some(0.0) });
        anna.sleep(60).await;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
}

#[test]
fn a_gate_that_fails_while_the_provider_refuses_the_end_rolls_back() {
    use crate::memory::Fault;
    let world = World::new();
    let ended = drained(&world, async |mut anna| {
        world.provider.fail([Some(Fault::Auth)]);
        assert!(anna.say(FINISH).await.unwrap_err().contains("401"));
        anna.sleep(3_600).await;
        assert_eq!(anna.until(|_| true).await.state, "drained");
        // A server that fails is tried again for a while; that is watched, too.
        world.provider.fail([Some(Fault::Server); 100]);
        let finish = anna.say(FINISH);
        let fail = async {
            anna.sleep(60).await;
            world.gates(|_, _, _| failing());
            world.provider.fail([]);
        };
        let (finished, ()) = tokio::join!(finish, fail);
        assert_eq!(finished.as_deref(), Ok("rolling back, applying"));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(world.provider.held().share(), Some(Share::BLUE));
}

#[test]
fn killed_after_the_drain_it_is_finished_or_gone_back_from_anywhere() {
    let world = World::new();
    let clock = world.clock.clone();
    world.start().until_finished().run_for(Duration::from_secs(3 * 86_400));
    assert!(clock.now() >= Duration::from_secs(3 * 86_400));
    assert_eq!(
        world.open(|start_context| start_context.finish(false, false)).unwrap().end(),
        EngineOutcome::Reached(CutoverPhase::Finished)
    );
    let world = World::new();
    world.start().until_finished().run_for(Duration::from_secs(3 * 86_400));
    assert_eq!(world.another_machine().rollback().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
}

#[test]
fn skipped_steps_are_told_here_and_on_another_machine() {
    let world = World::new();
    world.start().with(async |mut anna| {
        anna.until_activity(1, Activity::Baking).await;
        anna.say(OperatorCommand::Promote { full: true }).await.unwrap();
        assert_eq!(anna.until_activity(100, Activity::Baking).await.skipped, [1, 2, 3]);
        // The step before has not been seen by anybody; it is now.
        anna.say(OperatorCommand::Undo).await.unwrap();
        assert_eq!(anna.until_state("paused").await.skipped, [1, 2]);
        anna.say(OperatorCommand::Resume).await.unwrap();
        assert_eq!(anna.until_activity(100, Activity::Baking).await.skipped, [1, 2]);
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    for world in [world.clone(), world.another_machine()] {
        world.resume().with(async |mut anna| {
            assert_eq!(anna.until_activity(100, Activity::Baking).await.skipped, [1, 2]);
            anna.say(OperatorCommand::Leave).await.unwrap();
        });
    }
}

#[test]
fn a_second_rollback_does_not_replace_the_reason_of_the_first() {
    let world = World::new();
    // Connections stay open, so that it goes on for a while.
    world.traffic(|_, now| Traffic {
        blue: Some(1.0),
        green: Some(if now.as_secs() < 20_000 { 1.0 } else { 0.0 }),
    });
    let why = "gate errors: 7 %, must be ≤ 1 %";
    world.gates(|_, share, _| if share > Share::BLUE { failing() } else { passing() });
    world.start().with(async |mut anna| {
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        anna.say(OperatorCommand::Rollback { reason: "I said so too".to_owned() }).await.unwrap();
        assert_eq!(anna.until(|_| true).await.rollback_reason.as_deref(), Some(why));
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    let second = world.another_machine();
    let reason =
        |start_context: &kongferry::cutover::session::StartContext<'_>| Ok(start_context.rollback("and I"));
    let ended = second.open(reason).unwrap().with(async |mut boris| {
        let status = boris.until(|status| status.state == "rolling_back").await;
        assert!(status.rollback_reason.is_some_and(|known| why.starts_with(&known)));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    let marker = kongferry::dns::Marker::parse(&world.provider.held().marker_text.unwrap()).unwrap();
    assert!(why.starts_with(&marker.note), "{}", marker.note);
    let told = world.told();
    assert!(told.iter().filter(|said| said.code == "rollback").all(|said| said.text.contains("gate errors")));
    assert!(told.iter().any(|said| said.text.ends_with("already under way; anna: I said so too")));
    assert!(told.iter().any(|said| said.text.ends_with("already under way; boris@elsewhere/2: and I")));
}

#[test]
fn the_lease_of_the_last_step_lasts_as_long_as_the_drain() {
    let world = World::new();
    drained(&world, async |anna| drop(anna.say(OperatorCommand::Leave).await));
    let marker = kongferry::dns::Marker::parse(&world.provider.held().marker_text.unwrap()).unwrap();
    let lease = marker.lease_until.unwrap() - marker.written_at;
    assert!(lease >= chrono::TimeDelta::hours(25), "{lease}");
}

#[test]
fn who_watches_stops_when_somebody_finishes_it_from_elsewhere() {
    let world = World::new();
    let ended = drained(&world, async |anna| {
        world.provider.set(|held| {
            held.state = RecordState::Plain(Side::Green);
            held.ttl = 3_600;
            held.marker_text = None;
        });
        anna.sleep(60).await;
    });
    assert_eq!(ended, EngineOutcome::TakenOver("another process has finished the cutover".to_owned()));
    assert_eq!(world.provider.held().ttl, 3_600);
}
