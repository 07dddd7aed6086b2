//! A complete run without faults, hooks and drift.

use std::time::Duration;

use kongferry::cutover::call::CallReply;
use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::environment::{DriftStatus, Hook};
use kongferry::cutover::gates::measurement::Traffic;
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};

use crate::simulation::{CONFIG, Simulation, lock, shares_held};

#[test]
fn a_run_goes_through_all_steps_drains_and_finishes() {
    let simulation = Simulation::new();
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "10 %", "50 %", "100 %"]);
    // The old TTL of an hour, five bakes of an hour, a day of drain.
    let hours = simulation.clock_hours();
    assert!((30.0..30.5).contains(&hours), "{hours}");
    let stored = simulation.provider.stored();
    assert_eq!(stored.ttl, 30);
    assert!(stored.marker_text.is_some_and(|text| text.contains("ttl=api.example.test/A,3600")));

    assert_eq!(
        simulation.open(|start_context| start_context.finish(false, false)).unwrap().end(),
        EngineOutcome::Reached(CutoverPhase::Finished)
    );
    let stored = simulation.provider.stored();
    assert_eq!(
        (stored.state, stored.ttl, stored.marker_text),
        (RecordState::Plain(Side::Green), 3_600, None)
    );
}

#[test]
fn nothing_goes_to_green_before_the_old_ttl_has_expired() {
    let simulation = Simulation::new();
    let ended = simulation.start().run_for(Duration::from_secs(3_590));
    assert_eq!(ended, None);
    assert_eq!(shares_held(&simulation), ["0 %"]);
    assert_eq!(simulation.provider.stored().ttl, 30);
}

#[test]
fn the_bake_time_starts_when_every_server_answers() {
    let simulation = Simulation::new();
    let began = simulation.clock_hours();
    simulation.start().with(async |mut anna| {
        // A measurement at another share does not count.
        assert_eq!(anna.until_activity(1, Activity::Settling).await.share.by_queries, None);
        anna.until_activity(1, Activity::Baking).await;
        let baking = anna.now();
        anna.until_activity(5, Activity::Applying).await;
        let hour = (anna.now() - baking).as_secs_f64();
        assert!((3_600.0..3_602.0).contains(&hour), "{hour}");
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert!(began < simulation.clock_hours());
}

#[test]
fn a_confirming_hook_is_repeated_and_a_failing_pre_step_hook_pauses() {
    let simulation = Simulation::new();
    let clock = simulation.clock.clone();
    simulation.hooks(move |hook| {
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
    simulation.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.paused.as_ref().map(|pause| pause.code.as_str()), Some("hook"));
        assert!(status.paused.unwrap().reason.contains("the hook pre_step refused: HTTP 500"));
        assert_eq!(status.share.weight, Share::percent(1).unwrap_or_default().max(status.share.weight));
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    let asked =
        lock(&simulation.scripts.hooks_called).iter().filter(|hook| **hook == Hook::ConfirmRollout).count();
    assert!(asked > 3, "it was asked {asked} times");
}

#[test]
fn drift_pauses_before_the_next_step() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        *lock(&simulation.scripts.drift) = DriftStatus::Changed("2 consumers were added on blue".to_owned());
        let status = anna.until_state("paused").await;
        assert_eq!(status.share.weight, Share::percent(5).unwrap());
        assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("drift"));
        *lock(&simulation.scripts.drift) = DriftStatus::None;
        anna.send(OperatorCommand::Resume).await.unwrap();
        anna.until_activity(10, Activity::Baking).await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "10 %"]);
}

#[test]
fn drift_refuses_finish_and_nothing_is_changed() {
    let simulation = Simulation::new();
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    let stored = simulation.provider.stored();
    for drift in [
        DriftStatus::Changed("1 route is new on blue".to_owned()),
        DriftStatus::Unknown("no blue".to_owned()),
    ] {
        *lock(&simulation.scripts.drift) = drift.clone();
        let ended = simulation.open(|start_context| start_context.finish(false, false)).unwrap().end();
        let (DriftStatus::Changed(why) | DriftStatus::Unknown(why)) = drift else { unreachable!() };
        assert!(
            matches!(&ended, EngineOutcome::NotFinished(message) if message.starts_with(&why)),
            "{ended:?}"
        );
        assert_eq!(simulation.provider.stored(), stored);
    }
    // It is drained, and --accept-drift accepts the changes.
    let ended = simulation.open(|start_context| start_context.finish(false, true)).unwrap().end();
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    assert_eq!(simulation.provider.stored().state, RecordState::Plain(Side::Green));
}

#[test]
fn a_draining_engine_continues_when_drift_refuses_finish() {
    let simulation = Simulation::new();
    let ended = simulation.start().with(async |mut anna| {
        anna.until_state("draining").await;
        anna.sleep(3_600).await;
        *lock(&simulation.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
        let why = anna.send(OperatorCommand::Finish { force: true, accept_drift: false }).await.unwrap_err();
        assert!(why.starts_with("1 route is new on blue"), "{why}");
        anna.until(|status| status.events.iter().any(|event| event.notice.code == "not_finished")).await;
        let status = anna.until(|_| true).await;
        assert_eq!((status.state.as_str(), status.share.weight), ("draining", Share::GREEN));
        *lock(&simulation.scripts.drift) = DriftStatus::None;
    });
    // The drain is not restarted.
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Drained));
    assert!(simulation.clock_hours() < 30.5, "{}", simulation.clock_hours());
}

#[test]
fn finish_after_a_rollback_ignores_drift() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        anna.send(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
    });
    *lock(&simulation.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
    let ended = simulation.open(|start_context| start_context.finish(false, false)).unwrap().end();
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    assert_eq!(simulation.provider.stored().state, RecordState::Plain(Side::Blue));
}

#[test]
fn approval_waits_for_promote_while_gates_are_checked() {
    let simulation = Simulation::with(&format!("approval = true\n{CONFIG}"));
    simulation.start().with(async |mut anna| {
        anna.until_activity(1, Activity::Approval).await;
        anna.sleep(86_400).await;
        let status = anna.until(|_| true).await;
        assert_eq!(
            (status.share.weight, status.phase.activity()),
            (Share::percent(1).unwrap(), Some(Activity::Approval))
        );
        anna.send(OperatorCommand::Promote { full: false }).await.unwrap();
        anna.until_activity(5, Activity::Approval).await;
        anna.send(OperatorCommand::Promote { full: true }).await.unwrap();
        anna.until_state("draining").await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "100 %"]);
}

#[test]
fn blue_must_be_idle_for_the_whole_drain() {
    let simulation = Simulation::new();
    simulation.traffic(|share, now| {
        // One client sends a request after 40 hours.
        let stray = (144_000..144_060).contains(&now.as_secs());
        let blue = if share == Share::GREEN && !stray { 0.0 } else { 3.0 };
        Traffic { blue: Some(blue), green: Some(50.0) }
    });
    simulation.start().with(async |mut anna| {
        anna.until_state("draining").await;
        anna.until_state("drained").await;
    });
    // Without the stray it would be over after about 30 hours, before it comes.
    assert!(simulation.clock_hours() < 31.0);
    let simulation = Simulation::new();
    simulation.traffic(|_, now| Traffic {
        blue: Some(if now.as_secs() < 144_000 { 0.1 } else { 0.0 }),
        green: Some(50.0),
    });
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    let hours = simulation.clock_hours();
    assert!((64.0..64.1).contains(&hours), "{hours}");
}

#[test]
fn without_counters_blue_is_never_idle() {
    let simulation = Simulation::new();
    simulation.traffic(|_, _| Traffic::default());
    let ended = simulation.start().run_for(Duration::from_secs(6 * 86_400));
    assert_eq!(ended, None);
    assert_eq!(simulation.provider.stored().share(), Some(Share::GREEN));
}
