//! Commands of operators, a second operator, and leases.

use std::time::Duration;

use kongferry::cutover::clock::Clock;
use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::environment::NameServerState;
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};
use kongferry::error::Kind;

use crate::simulation::{Simulation, shares_held};

#[test]
fn a_pause_keeps_the_share_and_the_bake_time() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        anna.sleep(1_800).await;
        let reported = anna.send(OperatorCommand::Pause).await.unwrap();
        assert_eq!(reported, "paused: step 2 of 5 (5 %), baking");
        anna.sleep(36_000).await;
        let status = anna.until(|_| true).await;
        assert_eq!((status.state.as_str(), status.share.weight), ("paused", Share::percent(5).unwrap()));
        anna.send(OperatorCommand::Resume).await.unwrap();
        let resumed = anna.now();
        anna.until_activity(10, Activity::Applying).await;
        let left = (anna.now() - resumed).as_secs();
        assert!((1_790..1_810).contains(&left), "{left}");
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
}

#[test]
fn undo_goes_one_step_back_and_stays_there() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(10, Activity::Baking).await;
        anna.send(OperatorCommand::Undo).await.unwrap();
        let status = anna.until_state("paused").await;
        assert_eq!(status.share.weight, Share::percent(5).unwrap());
        anna.send(OperatorCommand::Resume).await.unwrap();
        anna.until_activity(10, Activity::Baking).await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "10 %", "5 %", "10 %"]);
}

#[test]
fn undo_of_the_first_step_is_a_rollback() {
    let simulation = Simulation::new();
    let ended = simulation.start().with(async |mut anna| {
        anna.until_activity(1, Activity::Baking).await;
        anna.send(OperatorCommand::Undo).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
}

#[test]
fn a_rollback_is_accepted_in_every_state() {
    for state in ["ttl_lowering", "step", "draining"] {
        for paused in [false, true] {
            let simulation = Simulation::new();
            let ended = simulation.start().with(async |mut anna| {
                anna.until_state(state).await;
                if paused {
                    anna.send(OperatorCommand::Pause).await.unwrap();
                }
                anna.send(OperatorCommand::Rollback { reason: "enough".to_owned() }).await.unwrap();
            });
            assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack), "{state} {paused}");
            assert_eq!(simulation.provider.stored().share(), Some(Share::BLUE), "{state} {paused}");
        }
    }
}

#[test]
fn a_command_that_does_not_apply_is_refused_with_the_state() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(1, Activity::Baking).await;
        let refused = anna.send(OperatorCommand::Resume).await.unwrap_err();
        assert_eq!(refused, "the cutover is not paused: step 1 of 5 (1 %), baking");
        assert!(anna.send(OperatorCommand::Finish { force: true, accept_drift: false }).await.is_err());
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
}

#[test]
fn leaving_leaves_the_records_as_they_are() {
    let simulation = Simulation::new();
    let ended = simulation.start().with(async |mut anna| {
        anna.until_activity(10, Activity::Baking).await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Left);
    assert_eq!(simulation.provider.stored().share(), Share::percent(10));
    let after = simulation.another_machine();
    assert_eq!(after.resume().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "10 %", "50 %", "100 %"]);
}

#[test]
fn a_second_operator_is_refused_with_the_owner() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(1, Activity::Baking).await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    let second = simulation.another_machine();
    let refused = second.open(|start_context| start_context.start()).err().expect("refused");
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(
        refused.message().starts_with("a cutover is under way: anna@elsewhere/1 started it at 2027-01-15")
    );
    let refused = second.open(|start_context| start_context.resume(false, false)).err().expect("refused");
    assert!(refused.message().starts_with("anna@elsewhere/1 has been running this cutover since 2027-01-15"));
    assert!(refused.remedy_text().is_some_and(|remedy| remedy.contains("unlock")));
    let refused = second.open(|start_context| start_context.adopt()).err().expect("refused");
    assert!(refused.message().starts_with("anna@elsewhere/1 has been running this cutover since 2027-01-15"));
}

#[test]
fn an_engine_stops_after_a_takeover_and_follows_a_rollback() {
    // Both processes are in one simulation.
    let simulation = Simulation::new();
    let ended = simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        // A machine of the same minute takes over and dies at once.
        let marker =
            kongferry::dns::Marker::parse(&simulation.provider.stored().marker_text.unwrap()).unwrap();
        let taken = kongferry::dns::Marker {
            generation: marker.generation + 1,
            owner: "boris@b/2".to_owned(),
            ..marker
        };
        simulation.provider.set(|stored| stored.marker_text = Some(taken.to_text()));
        anna.sleep(20).await;
    });
    assert!(
        matches!(&ended, EngineOutcome::TakenOver(by) if by.contains("boris@b/2 took over")),
        "{ended:?}"
    );
    for (note, reported) in [
        ("", "Rolled back by boris@b/2"),
        ("requested by boris@b/2", "Rolled back by boris@b/2"),
        ("boris@b/2: a drill", "Rolled back by boris@b/2: a drill"),
        ("gate smoke: exit code 1", "Rolled back by boris@b/2 (gate smoke: exit code 1)"),
    ] {
        let simulation = Simulation::new();
        let mut went_back = Duration::ZERO;
        let ended = simulation.start().with(async |mut anna| {
            anna.until_activity(5, Activity::Baking).await;
            let marker =
                kongferry::dns::Marker::parse(&simulation.provider.stored().marker_text.unwrap()).unwrap();
            let back = kongferry::dns::Marker {
                generation: marker.generation + 1,
                owner: "boris@b/2".to_owned(),
                state: "rolled-back".to_owned(),
                note: note.to_owned(),
                ..marker
            };
            simulation.provider.set(|stored| {
                stored.marker_text = Some(back.to_text());
                stored.state = RecordState::Split { blue: 1, green: 0 };
            });
            // A secondary answers with the old share for five minutes: the rollback lasts as long.
            went_back = anna.now() + Duration::from_secs(300);
            simulation.answers(move |share, now| match share {
                Share::BLUE if now < went_back => NameServerState::Pending("ns2 answers 5 %".to_owned()),
                _ => NameServerState::Agree,
            });
        });
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
        assert!(simulation.notices().iter().any(|notice| notice.text == reported), "{reported}");
        // Then the TTL and the resolver floor.
        assert!(
            simulation.clock.now() >= went_back + Duration::from_secs(60),
            "{:?}",
            simulation.clock.now()
        );
    }
}

#[test]
fn a_released_lease_names_both_owners() {
    use kongferry::cutover::session::{Operator, previous_owner};
    let simulation = Simulation::new();
    let ended = simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        let marker =
            kongferry::dns::Marker::parse(&simulation.provider.stored().marker_text.unwrap()).unwrap();
        let freed = kongferry::dns::Marker {
            generation: marker.generation + 1,
            lease_until: None,
            note: "unlocked by boris@b/2".to_owned(),
            ..marker
        };
        simulation.provider.set(|stored| stored.marker_text = Some(freed.to_text()));
        anna.sleep(20).await;
    });
    assert_eq!(ended, EngineOutcome::TakenOver("unlocked by boris@b/2".to_owned()));
    let marker = kongferry::dns::Marker::parse(&simulation.provider.stored().marker_text.unwrap()).unwrap();
    let boris = |owner: &str| Operator {
        owner: owner.to_owned(),
        wall: marker.written_at,
        rollback_command: String::new(),
    };
    let reported = previous_owner(&marker, &boris("boris@b/2")).unwrap();
    assert!(
        reported.starts_with("anna@elsewhere/1 ran this cutover and last wrote at 2027-01-15"),
        "{reported}"
    );
    assert_eq!(previous_owner(&marker, &boris("anna@elsewhere/1")), None);
}

#[test]
fn retry_is_refused_during_a_rollback_and_after_the_last_step() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_state("draining").await;
        assert!(
            anna.send(OperatorCommand::Retry).await.unwrap_err().starts_with("there is no step to repeat")
        );
        anna.send(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
        assert!(
            anna.send(OperatorCommand::Retry)
                .await
                .unwrap_err()
                .starts_with("a rollback cannot be interrupted")
        );
    });
}

#[test]
fn after_a_rollback_retry_starts_over_and_finish_restores_blue() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        anna.send(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
    });
    let again = simulation.another_machine();
    let ended = again.open(|start_context| start_context.resume(true, true)).unwrap().end();
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Drained));
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "0 %", "1 %", "5 %", "10 %", "50 %", "100 %"]);

    let back = again.another_machine();
    assert_eq!(back.rollback().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(
        back.open(|start_context| start_context.finish(true, false)).unwrap().end(),
        EngineOutcome::Reached(CutoverPhase::Finished)
    );
    let stored = simulation.provider.stored();
    assert_eq!((stored.state, stored.ttl, stored.marker_text), (RecordState::Plain(Side::Blue), 3_600, None));
}

#[test]
fn a_split_without_a_marker_is_adopted_or_rolled_back() {
    let simulation = Simulation::new();
    simulation.provider.set(|stored| {
        stored.state = RecordState::Split { blue: 9, green: 1 };
        stored.ttl = 30;
    });
    assert!(simulation.open(|start_context| start_context.start()).is_err());
    assert!(simulation.open(|start_context| start_context.resume(false, false)).is_err());
    assert_eq!(
        simulation.open(|start_context| start_context.adopt()).unwrap().end(),
        EngineOutcome::Reached(CutoverPhase::Drained)
    );
    let simulation = Simulation::new();
    simulation.provider.set(|stored| stored.state = RecordState::Split { blue: 1, green: 3 });
    assert!(simulation.open(|start_context| start_context.adopt()).is_err(), "75 % is no step");
    assert_eq!(simulation.rollback().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
}
