//! What goes wrong at the provider and at the name servers: each leads to a state that is known beforehand, none to
//! a share that was not planned.

use kongferry::cutover::clock::Clock;
use std::time::Duration;

use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::environment::NameServerState;
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};

use crate::memory_provider::Fault;
use crate::simulation::{Simulation, failing, shares_held};

const ALL: [&str; 6] = ["0 %", "1 %", "5 %", "10 %", "50 %", "100 %"];

fn percent(percent: u16) -> Share {
    Share::percent(percent).unwrap()
}

/// Runs with faults of the third write.
fn third_write_fails(faults: &[Fault]) -> (Simulation, EngineOutcome) {
    let simulation = Simulation::new();
    simulation.provider.fail([None, None].into_iter().chain(faults.iter().copied().map(Some)));
    let running = simulation.start();
    (simulation, running.end())
}

#[test]
fn throttling_server_errors_and_lost_requests_are_retried() {
    for faults in [
        vec![Fault::Throttled(7), Fault::Throttled(1)],
        vec![Fault::Server; 5],
        vec![Fault::LostRequest; 3],
        vec![Fault::LostAnswer],
        vec![Fault::LostRequest, Fault::Server, Fault::LostAnswer],
        vec![Fault::Late(1)],
        vec![Fault::Late(100)],
    ] {
        let (simulation, ended) = third_write_fails(&faults);
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Drained), "{faults:?}");
        assert_eq!(shares_held(&simulation), ALL, "{faults:?}");
    }
}

#[test]
fn a_wrong_key_pauses_at_the_present_share() {
    let simulation = Simulation::new();
    simulation.provider.fail([None, None, Some(Fault::Auth)]);
    simulation.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("provider"));
        assert_eq!(status.share.weight, percent(1));
        anna.send(OperatorCommand::Resume).await.unwrap();
        anna.until_activity(5, Activity::Baking).await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %"]);
}

#[test]
fn an_unreachable_provider_pauses_after_the_settle_limit() {
    let simulation = Simulation::new();
    simulation.provider.fail([None, None].into_iter().chain([Some(Fault::Server); 100]));
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Applying).await;
        let began = anna.now();
        anna.until_state("paused").await;
        let took = (anna.now() - began).as_secs();
        assert!((600..640).contains(&took), "{took}");
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
}

#[test]
fn a_rollback_is_retried_until_it_succeeds() {
    let simulation = Simulation::new();
    let faults = [Fault::Auth, Fault::Server, Fault::Throttled(2), Fault::LostRequest, Fault::Auth];
    simulation.provider.fail([None; 3].into_iter().chain(faults.map(Some)));
    simulation
        .gates(|_, share, _| if share == percent(5) { failing() } else { crate::simulation::passing() });
    let mut manual = None;
    let ended = simulation.start().with(async |mut anna| {
        manual = anna.until(|status| status.manual_command.is_some()).await.manual_command;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(manual.as_deref(), Some("manual rollback"));
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "0 %"]);
}

#[test]
fn a_rollback_writes_even_if_nothing_can_be_read() {
    let simulation = Simulation::new();
    let mut took = Duration::ZERO;
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        simulation.provider.fail_reads(1_000);
        let began = anna.now();
        anna.send(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
        anna.until(|status| status.share.weight == Share::BLUE).await;
        took = anna.now() - began;
        simulation.provider.fail_reads(0);
    });
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_write_applied_after_the_rollback_is_reverted() {
    let simulation = Simulation::new();
    simulation.provider.fail([None, None, Some(Fault::Late(20))]);
    let ended = simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Applying).await;
        anna.sleep(1).await;
        anna.send(OperatorCommand::Rollback { reason: "manual rollback".to_owned() }).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "0 %", "5 %", "0 %"]);
    assert!(simulation.has_notice("not_back"));
}

#[test]
fn records_changed_by_another_client_pause() {
    let simulation = Simulation::new();
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        simulation.provider.set(|stored| stored.state = RecordState::Split { blue: 1, green: 3 });
        let status = anna.until_state("paused").await;
        let pause = status.paused.unwrap();
        assert_eq!(pause.code, "changed");
        assert!(pause.reason.contains("75 %"), "{}", pause.reason);
        anna.send(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
    });
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "75 %", "0 %"]);
}

#[test]
fn plain_and_foreign_records_pause_before_the_next_write() {
    for state in
        [RecordState::Plain(Side::Blue), RecordState::Foreign("192.0.2.99".to_owned()), RecordState::Absent]
    {
        let simulation = Simulation::with(
            &crate::simulation::CONFIG.replace("check_every = \"10s\"", "check_every = \"2h\""),
        );
        simulation.start().with(async |mut anna| {
            anna.until_activity(5, Activity::Baking).await;
            simulation.provider.set(|stored| stored.state = state.clone());
            let status = anna.until_state("paused").await;
            assert_eq!(status.paused.unwrap().code, "changed", "{state:?}");
            anna.send(OperatorCommand::Leave).await.unwrap();
        });
        assert!(!shares_held(&simulation).contains(&"10 %".to_owned()), "{state:?}");
    }
}

#[test]
fn a_lagging_secondary_delays_a_step_and_then_pauses() {
    let simulation = Simulation::new();
    let clock = simulation.clock.clone();
    simulation.answers(move |share, now| {
        let slow = share == percent(5) && now < Duration::from_secs(8_000);
        if slow { NameServerState::Pending("ns2 answers 1 %".to_owned()) } else { NameServerState::Agree }
    });
    simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Settling).await;
        let status = anna.until_state("paused").await;
        assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("name_servers"));
        anna.send(OperatorCommand::Resume).await.unwrap();
        anna.until_activity(5, Activity::Baking).await;
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert!(clock.now() > Duration::from_secs(8_000));
}

#[test]
fn a_wrong_answer_rolls_back_while_settling_and_while_baking() {
    for later in [false, true] {
        let simulation = Simulation::new();
        let began = std::sync::Arc::new(std::sync::Mutex::new(None));
        simulation.answers(move |share, now| {
            if share != percent(10) {
                return NameServerState::Agree;
            }
            let first = *began.lock().unwrap().get_or_insert(now);
            let wrong = !later || now > first + Duration::from_secs(1_000);
            if wrong { NameServerState::Wrong("ns1: SERVFAIL".to_owned()) } else { NameServerState::Agree }
        });
        assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
        assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "10 %", "0 %"]);
        assert!(
            simulation.notices().iter().any(|notice| notice.text.contains("wrong answers: ns1: SERVFAIL"))
        );
    }
}

#[test]
fn a_slow_confirmation_delays_the_step() {
    let simulation = Simulation::new();
    simulation.provider.confirm_late(20);
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
}
