//! From `drained` to `finish`: watched, and finished only if blue is idle and nothing was changed.

use std::time::Duration;

use kongferry::cutover::clock::Clock;
use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::environment::{DriftStatus, NameServerState};
use kongferry::cutover::gates::measurement::{Measurement, Traffic};
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};

use crate::simulation::{CONFIG, OperatorConsole, Simulation, failing, lock, passing};

const FINISH: OperatorCommand = OperatorCommand::Finish { force: false, accept_drift: false };
const FORCED: OperatorCommand = OperatorCommand::Finish { force: true, accept_drift: false };

/// Runs a cutover until `finish`, with an operator from `drained` on.
fn drained<F: Future<Output = ()>>(
    simulation: &Simulation,
    operator: impl FnOnce(OperatorConsole) -> F,
) -> EngineOutcome {
    simulation.start().until_finished().with(async |mut anna| {
        anna.until_state("drained").await;
        operator(anna).await;
    })
}

fn busy(simulation: &Simulation, blue: Option<f64>) {
    simulation.traffic(move |_, _| Traffic { blue, green: Some(100.0) });
}

#[test]
fn a_drained_engine_runs_until_finish() {
    let simulation = Simulation::new();
    let ended = drained(&simulation, async |mut anna| {
        anna.sleep(3 * 86_400).await;
        let status = anna.until(|_| true).await;
        assert_eq!(status.sentence, "drained; \"kongferry cutover finish\" restores the TTL");
        assert_eq!(anna.send(FINISH).await.as_deref(), Ok("finished"));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    let stored = simulation.provider.stored();
    assert_eq!(
        (stored.state, stored.ttl, stored.marker_text),
        (RecordState::Plain(Side::Green), 3_600, None)
    );
}

#[test]
fn a_gate_that_fails_after_the_drain_rolls_back_within_an_interval() {
    let simulation = Simulation::new();
    let mut took = Duration::ZERO;
    let ended = drained(&simulation, async |mut anna| {
        anna.sleep(50_000).await;
        let failed = anna.now();
        simulation.gates(|_, _, _| failing());
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        took = anna.now() - failed;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert!(took <= Duration::from_secs(31), "{took:?}");
}

#[test]
fn an_operator_rolls_back_or_leaves_after_the_drain() {
    let simulation = Simulation::new();
    let ended = drained(&simulation, async |anna| {
        assert!(
            anna.send(OperatorCommand::Pause).await.unwrap_err().starts_with("there is no step to pause")
        );
        anna.send(OperatorCommand::Rollback { reason: "enough".to_owned() }).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    let simulation = Simulation::new();
    let ended = drained(&simulation, async |anna| drop(anna.send(OperatorCommand::Leave).await));
    assert_eq!(ended, EngineOutcome::Left);
    assert_eq!(simulation.provider.stored().share(), Some(Share::GREEN));
    // The drain is not repeated.
    let before = simulation.clock_hours();
    let ended = simulation.resume().until_finished().with(async |mut anna| {
        anna.until_state("drained").await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Left);
    assert!(simulation.clock_hours() - before < 0.2, "{}", simulation.clock_hours() - before);
}

#[test]
fn requests_on_blue_restart_the_drain() {
    let simulation = Simulation::new();
    let mut again = Duration::ZERO;
    let ended = drained(&simulation, async |mut anna| {
        busy(&simulation, Some(3.0));
        let status = anna.until_state("draining").await;
        assert!(status.events.iter().any(|event| event.notice.text
            == "Blue receives 3.00 requests per second again; the drain starts over"));
        assert!(anna.send(FINISH).await.unwrap_err().starts_with("blue has not been idle"));
        assert!(
            anna.send(OperatorCommand::Promote { full: false })
                .await
                .unwrap_err()
                .starts_with("blue receives")
        );
        anna.sleep(7_200).await;
        busy(&simulation, Some(0.0));
        let stopped = anna.now();
        anna.until_state("drained").await;
        again = anna.now() - stopped;
        anna.send(FINISH).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    assert!((86_400..86_430).contains(&again.as_secs()), "{again:?}");
}

#[test]
fn resume_after_the_drain_drains_again_while_blue_receives_requests() {
    let simulation = Simulation::new();
    drained(&simulation, async |anna| drop(anna.send(OperatorCommand::Leave).await));
    busy(&simulation, Some(2.0));
    let ended = simulation.resume().until_finished().with(async |mut anna| {
        anna.until_state("draining").await;
        anna.sleep(3 * 86_400).await;
        assert_eq!(anna.until(|_| true).await.state, "draining");
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Left);
}

#[test]
fn finish_reads_the_counter_of_blue_in_a_running_engine() {
    for (blue, why) in
        [(Some(0.5), "blue receives 0.50 requests per second"), (None, "blue's requests cannot be counted")]
    {
        let simulation = Simulation::new();
        let stored = std::cell::RefCell::new(None);
        let ended = drained(&simulation, async |mut anna| {
            // Between two checks of the counters.
            anna.sleep(3).await;
            *stored.borrow_mut() = Some(simulation.provider.stored());
            busy(&simulation, blue);
            let message = anna.send(FINISH).await.unwrap_err();
            assert!(message.starts_with(why) && message.contains("--force"), "{message}");
            assert_eq!(Some(simulation.provider.stored()), stored.take());
            assert!(simulation.has_notice("not_finished"));
            let state = anna.until(|_| true).await.state;
            assert!(["drained", "draining"].contains(&state.as_str()), "{state}");
            assert_eq!(anna.send(FORCED).await.as_deref(), Ok("finished"));
        });
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    }
}

#[test]
fn finish_reads_the_counter_of_blue_in_its_own_process() {
    for (blue, why) in
        [(Some(0.5), "blue receives 0.50 requests per second"), (None, "blue's requests cannot be counted")]
    {
        let simulation = Simulation::new();
        assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
        let stored = simulation.provider.stored();
        busy(&simulation, blue);
        let ended = simulation.open(|start_context| start_context.finish(false, true)).unwrap().end();
        assert!(
            matches!(&ended, EngineOutcome::NotFinished(message) if message.starts_with(why)),
            "{ended:?}"
        );
        assert_eq!(simulation.provider.stored(), stored);
        let ended = simulation.open(|start_context| start_context.finish(true, false)).unwrap().end();
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    }
}

#[test]
fn an_inconclusive_gate_after_the_drain_is_reported_once_and_refuses_finish() {
    let simulation = Simulation::new();
    let ended = drained(&simulation, async |mut anna| {
        simulation
            .gates(|gate, _, _| if gate == 0 { Measurement::inconclusive("no data") } else { passing() });
        anna.sleep(86_400).await;
        assert_eq!(anna.until(|_| true).await.state, "drained");
        let reported = simulation
            .notices()
            .iter()
            .filter(|notice| notice.text.contains("Gate errors is inconclusive"))
            .count();
        assert_eq!(reported, 1);
        let why = anna.send(FINISH).await.unwrap_err();
        assert!(why.starts_with("gate errors is inconclusive: no data"), "{why}");
        assert_eq!(simulation.provider.stored().ttl, 30);
        assert_eq!(anna.send(FORCED).await.as_deref(), Ok("finished"));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
}

#[test]
fn a_gate_that_only_pauses_refuses_finish() {
    let simulation = Simulation::with(&CONFIG.replace("max = 0.01", "max = 0.01\non_fail = \"pause\""));
    let ended = drained(&simulation, async |mut anna| {
        simulation.gates(|gate, _, _| if gate == 0 { failing() } else { passing() });
        anna.sleep(86_400).await;
        assert_eq!(anna.until(|_| true).await.state, "drained");
        assert!(anna.send(FINISH).await.unwrap_err().starts_with("gate errors fails"));
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Left);
}

#[test]
fn drift_is_checked_until_finish() {
    for state in ["draining", "drained"] {
        let simulation = Simulation::new();
        let ended = simulation.start().until_finished().with(async |mut anna| {
            anna.until_state(state).await;
            *lock(&simulation.scripts.drift) = DriftStatus::Unknown("no blue".to_owned());
            anna.sleep(2 * 3_600).await;
            assert_eq!(anna.until(|_| true).await.state, state);
            assert!(simulation.notices().iter().any(|notice| notice.text == "no blue"));
            *lock(&simulation.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
            let changed = anna.now();
            let status = anna.until_state("paused").await;
            assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("drift"));
            assert!(anna.now() - changed <= Duration::from_secs(3_610));
            // A resume without a repair pauses again.
            anna.send(OperatorCommand::Resume).await.unwrap();
            anna.sleep(60).await;
            assert_eq!(anna.until(|_| true).await.state, "paused");
            *lock(&simulation.scripts.drift) = DriftStatus::None;
            anna.send(OperatorCommand::Resume).await.unwrap();
            anna.until_state("drained").await;
            anna.send(FINISH).await.unwrap();
        });
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Finished));
    }
}

#[test]
fn a_refused_finish_keeps_the_pause() {
    let simulation = Simulation::new();
    drained(&simulation, async |mut anna| {
        *lock(&simulation.scripts.drift) = DriftStatus::Changed("1 route is new on blue".to_owned());
        anna.until_state("paused").await;
        assert!(anna.send(FINISH).await.unwrap_err().starts_with("1 route is new on blue"));
        assert_eq!(anna.until(|_| true).await.state, "paused");
        let accepted = OperatorCommand::Finish { force: false, accept_drift: true };
        assert_eq!(anna.send(accepted).await.as_deref(), Ok("finished"));
    });
}

#[test]
fn records_and_answers_are_checked_after_the_drain() {
    let simulation = Simulation::new();
    drained(&simulation, async |mut anna| {
        simulation.provider.set(|stored| stored.state = RecordState::Split { blue: 1, green: 1 });
        let status = anna.until_state("paused").await;
        assert!(status.paused.unwrap().reason.contains("the provider has 50 % to green"));
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    let simulation = Simulation::new();
    let ended = drained(&simulation, async |anna| {
        // Also after a refused finish.
        busy(&simulation, None);
        anna.send(FINISH).await.unwrap_err();
        simulation.answers(|share, _| match share {
            Share::GREEN => NameServerState::Wrong("ns1 answers SERVFAIL".to_owned()),
            _ => NameServerState::Agree,
        });
        simulation.traffic(|_, _| Traffic { blue: Some(100.0), green: Some(0.0) });
        anna.sleep(60).await;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
}

#[test]
fn a_gate_that_fails_while_the_provider_refuses_finish_rolls_back() {
    use crate::memory_provider::Fault;
    let simulation = Simulation::new();
    let ended = drained(&simulation, async |mut anna| {
        simulation.provider.fail([Some(Fault::Auth)]);
        assert!(anna.send(FINISH).await.unwrap_err().contains("401"));
        anna.sleep(3_600).await;
        assert_eq!(anna.until(|_| true).await.state, "drained");
        // A server error is retried, and gates are checked meanwhile.
        simulation.provider.fail([Some(Fault::Server); 100]);
        let finish = anna.send(FINISH);
        let fail = async {
            anna.sleep(60).await;
            simulation.gates(|_, _, _| failing());
            simulation.provider.fail([]);
        };
        let (finished, ()) = tokio::join!(finish, fail);
        assert_eq!(finished.as_deref(), Ok("rolling back, applying"));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(simulation.provider.stored().share(), Some(Share::BLUE));
}

#[test]
fn after_a_kill_when_drained_another_process_finishes_or_rolls_back() {
    let simulation = Simulation::new();
    let clock = simulation.clock.clone();
    simulation.start().until_finished().run_for(Duration::from_secs(3 * 86_400));
    assert!(clock.now() >= Duration::from_secs(3 * 86_400));
    assert_eq!(
        simulation.open(|start_context| start_context.finish(false, false)).unwrap().end(),
        EngineOutcome::Reached(CutoverPhase::Finished)
    );
    let simulation = Simulation::new();
    simulation.start().until_finished().run_for(Duration::from_secs(3 * 86_400));
    assert_eq!(
        simulation.another_machine().rollback().end(),
        EngineOutcome::Reached(CutoverPhase::RolledBack)
    );
}

#[test]
fn skipped_steps_are_shown_on_every_machine() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(1, Activity::Baking).await;
        anna.send(OperatorCommand::Promote { full: true }).await.unwrap();
        assert_eq!(anna.until_activity(100, Activity::Baking).await.skipped, [1, 2, 3]);
        // Undo runs the last skipped step.
        anna.send(OperatorCommand::Undo).await.unwrap();
        assert_eq!(anna.until_state("paused").await.skipped, [1, 2]);
        anna.send(OperatorCommand::Resume).await.unwrap();
        assert_eq!(anna.until_activity(100, Activity::Baking).await.skipped, [1, 2]);
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    for simulation in [simulation.clone(), simulation.another_machine()] {
        simulation.resume().with(async |mut anna| {
            assert_eq!(anna.until_activity(100, Activity::Baking).await.skipped, [1, 2]);
            anna.send(OperatorCommand::Leave).await.unwrap();
        });
    }
}

#[test]
fn a_second_rollback_keeps_the_first_reason() {
    let simulation = Simulation::new();
    // Open connections prolong the rollback.
    simulation.traffic(|_, now| Traffic {
        blue: Some(1.0),
        green: Some(if now.as_secs() < 20_000 { 1.0 } else { 0.0 }),
    });
    let why = "gate errors: 7 %, must be ≤ 1 %";
    simulation.gates(|_, share, _| if share > Share::BLUE { failing() } else { passing() });
    simulation.start().with(async |mut anna| {
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        anna.send(OperatorCommand::Rollback { reason: "I message so too".to_owned() }).await.unwrap();
        assert_eq!(anna.until(|_| true).await.rollback_reason.as_deref(), Some(why));
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    let second = simulation.another_machine();
    let reason =
        |start_context: &kongferry::cutover::session::StartContext<'_>| Ok(start_context.rollback("and I"));
    let ended = second.open(reason).unwrap().with(async |mut boris| {
        let status = boris.until(|status| status.state == "rolling_back").await;
        assert!(status.rollback_reason.is_some_and(|known| why.starts_with(&known)));
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    let marker = kongferry::dns::Marker::parse(&simulation.provider.stored().marker_text.unwrap()).unwrap();
    assert!(why.starts_with(&marker.note), "{}", marker.note);
    let reported = simulation.notices();
    assert!(
        reported
            .iter()
            .filter(|notice| notice.code == "rollback")
            .all(|notice| notice.text.contains("gate errors"))
    );
    assert!(reported.iter().any(|notice| notice.text.ends_with("already under way; anna: I message so too")));
    assert!(
        reported.iter().any(|notice| notice.text.ends_with("already under way; boris@elsewhere/2: and I"))
    );
}

#[test]
fn the_lease_of_the_last_step_lasts_as_long_as_the_drain() {
    let simulation = Simulation::new();
    drained(&simulation, async |anna| drop(anna.send(OperatorCommand::Leave).await));
    let marker = kongferry::dns::Marker::parse(&simulation.provider.stored().marker_text.unwrap()).unwrap();
    let lease = marker.lease_until.unwrap() - marker.written_at;
    assert!(lease >= chrono::TimeDelta::hours(25), "{lease}");
}

#[test]
fn an_engine_stops_when_another_process_finishes() {
    let simulation = Simulation::new();
    let ended = drained(&simulation, async |anna| {
        simulation.provider.set(|stored| {
            stored.state = RecordState::Plain(Side::Green);
            stored.ttl = 3_600;
            stored.marker_text = None;
        });
        anna.sleep(60).await;
    });
    assert_eq!(ended, EngineOutcome::TakenOver("another process has finished the cutover".to_owned()));
    assert_eq!(simulation.provider.stored().ttl, 3_600);
}
