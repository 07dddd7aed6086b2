//! The way through, when everything is as it should be.

use std::time::Duration;

use kongferry::cutover::call::CallReply;
use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::environment::{DriftStatus, Hook};
use kongferry::cutover::gates::measurement::Traffic;
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};

use crate::world::{CONFIG, World, lock, path};

#[test]
fn it_goes_through_all_steps_and_drains_and_finishes() {
    let world = World::new();
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    assert_eq!(path(&world), ["0 %", "1 %", "5 %", "10 %", "50 %", "100 %"]);
    // The old TTL of an hour, five bakes of an hour, a day of drain.
    let hours = world.clock_hours();
    assert!((30.0..30.5).contains(&hours), "{hours}");
    let held = world.provider.held();
    assert_eq!(held.ttl, 30);
    assert!(held.marker_text.is_some_and(|text| text.contains("ttl=api.example.test/A,3600")));

    assert_eq!(
        world.open(|start_context| start_context.finish(false, false)).unwrap().end(),
        EngineOutcome::Reached(CutoverPhase::Finished)
    );
    let held = world.provider.held();
    assert_eq!((held.state, held.ttl, held.marker_text), (RecordState::Plain(Side::Green), 3_600, None));
}

#[test]
fn nothing_goes_to_green_before_the_old_ttl_has_run_out() {
    let world = World::new();
    let ended = world.start().run_for(Duration::from_secs(3_590));
    assert_eq!(ended, None);
    assert_eq!(path(&world), ["0 %"]);
    assert_eq!(world.provider.held().ttl, 30);
}

#[test]
fn a_step_is_as_long_as_it_bakes_once_every_server_answers() {
    let world = World::new();
    let began = world.clock_hours();
    world.start().with(async |mut anna| {
        // What was measured at another share says nothing about this one.
        assert_eq!(anna.until_activity(1, Activity::Settling).await.share.by_queries, None);
        anna.until_activity(1, Activity::Baking).await;
        let baking = anna.now();
        anna.until_activity(5, Activity::Applying).await;
        let hour = (anna.now() - baking).as_secs_f64();
        assert!((3_600.0..3_602.0).contains(&hour), "{hour}");
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert!(began < world.clock_hours());
}

#[test]
fn a_confirming_hook_is_asked_until_it_says_yes_and_a_no_before_a_step_pauses() {
    let world = World::new();
    let clock = world.clock.clone();
    world.hooks(move |hook| {
        use kongferry::cutover::clock::Clock;
        let late = clock.now() > Duration::from_secs(3_700);
        match hook {
            Hook::ConfirmRollout if !late => Some(CallReply::Failure("HTTP 403".to_owned())),
            Hook::PreStep if clock.now() > Duration::from_secs(9_000) => {
                Some(CallReply::Failure("HTTP 500".to_owned()))
            }
            _ => Some(CallReply::Success(String::new())),
        }
    });
    world.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.paused.as_ref().map(|pause| pause.code.as_str()), Some("hook"));
        assert!(status.paused.unwrap().reason.contains("the hook pre_step refused: HTTP 500"));
        assert_eq!(status.share.weight, Share::percent(1).unwrap_or_default().max(status.share.weight));
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    let asked =
        lock(&world.scripts.hooks_called).iter().filter(|hook| **hook == Hook::ConfirmRollout).count();
    assert!(asked > 3, "it was asked {asked} times");
}

#[test]
fn drift_pauses_before_the_next_step() {
    let world = World::new();
    world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        *lock(&world.scripts.drift) = DriftStatus::Changed("2 consumers were added on blue".to_owned());
        let status = anna.until_state("paused").await;
        assert_eq!(status.share.weight, Share::percent(5).unwrap());
        assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("drift"));
        *lock(&world.scripts.drift) = DriftStatus::None;
        anna.say(OperatorCommand::Resume).await.unwrap();
        anna.until_activity(10, Activity::Baking).await;
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(path(&world), ["0 %", "1 %", "5 %", "10 %"]);
}

#[test]
fn drift_at_the_end_stops_finish_and_changes_nothing() {
    let world = World::new();
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    let held = world.provider.held();
    for drift in [
        DriftStatus::Changed("1 route is new on blue".to_owned()),
        DriftStatus::Unknown("no blue".to_owned()),
    ] {
        *lock(&world.scripts.drift) = drift.clone();
        let ended = world.open(|start_context| start_context.finish(false, false)).unwrap().end();
        let (DriftStatus::Changed(why) | DriftStatus::Unknown(why)) = drift else { unreachable!() };
        assert!(matches!(&ended, EngineOutcome::NotFinished(said) if said.starts_with(&why)), "{ended:?}");
        assert_eq!(world.provider.held(), held);
    }
    // It still is drained, and a person may take what stands on green for right.
    let ended = world.open(|start_context| start_context.finish(false, true)).unwrap().end();
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    assert_eq!(world.provider.held().state, RecordState::Plain(Side::Green));
}

#[test]
fn an_engine_that_drains_goes_on_draining_when_drift_stops_finish() {
    let world = World::new();
    let ended = world.start().with(async |mut anna| {
        anna.until_state("draining").await;
        anna.sleep(3_600).await;
        *lock(&world.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
        let why = anna.say(OperatorCommand::Finish { force: true, accept_drift: false }).await.unwrap_err();
        assert!(why.starts_with("1 route is new on blue"), "{why}");
        anna.until(|status| status.events.iter().any(|event| event.notice.code == "not_finished")).await;
        let status = anna.until(|_| true).await;
        assert_eq!((status.state.as_str(), status.share.weight), ("draining", Share::GREEN));
        *lock(&world.scripts.drift) = DriftStatus::None;
    });
    // The day of stillness is not begun anew.
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Drained));
    assert!(world.clock_hours() < 30.5, "{}", world.clock_hours());
}

#[test]
fn a_rollback_is_finished_whatever_people_have_changed() {
    let world = World::new();
    world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        anna.say(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
    });
    *lock(&world.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
    let ended = world.open(|start_context| start_context.finish(false, false)).unwrap().end();
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    assert_eq!(world.provider.held().state, RecordState::Plain(Side::Blue));
}

#[test]
fn approval_waits_for_a_person_while_the_gates_are_watched() {
    let world = World::with(&format!("approval = true\n{CONFIG}"));
    world.start().with(async |mut anna| {
        anna.until_activity(1, Activity::Approval).await;
        anna.sleep(86_400).await;
        let status = anna.until(|_| true).await;
        assert_eq!(
            (status.share.weight, status.phase.activity()),
            (Share::percent(1).unwrap(), Some(Activity::Approval))
        );
        anna.say(OperatorCommand::Promote { full: false }).await.unwrap();
        anna.until_activity(5, Activity::Approval).await;
        anna.say(OperatorCommand::Promote { full: true }).await.unwrap();
        anna.until_state("draining").await;
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(path(&world), ["0 %", "1 %", "5 %", "100 %"]);
}

#[test]
fn blue_must_be_still_for_the_whole_drain() {
    let world = World::new();
    world.traffic(|share, now| {
        // One old client comes once more after 40 hours.
        let stray = (144_000..144_060).contains(&now.as_secs());
        let blue = if share == Share::GREEN && !stray { 0.0 } else { 3.0 };
        Traffic { blue: Some(blue), green: Some(50.0) }
    });
    world.start().with(async |mut anna| {
        anna.until_state("draining").await;
        anna.until_state("drained").await;
    });
    // Without the stray it would be over after about 30 hours, before it comes.
    assert!(world.clock_hours() < 31.0);
    let world = World::new();
    world.traffic(|_, now| Traffic {
        blue: Some(if now.as_secs() < 144_000 { 0.1 } else { 0.0 }),
        green: Some(50.0),
    });
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    let hours = world.clock_hours();
    assert!((64.0..64.1).contains(&hours), "{hours}");
}

#[test]
fn no_counter_is_no_stillness() {
    let world = World::new();
    world.traffic(|_, _| Traffic::default());
    let ended = world.start().run_for(Duration::from_secs(6 * 86_400));
    assert_eq!(ended, None);
    assert_eq!(world.provider.held().share(), Some(Share::GREEN));
}
