//! Gates: what fails goes back, what is unclear pauses, at any time and in every state.

use std::time::Duration;

use kongferry::cutover::clock::Clock;
use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::gates::measurement::{Measurement, Traffic};
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::Share;

use crate::memory_provider::Fault;
use crate::simulation::{CONFIG, Simulation, failing, passing, shares_held};

/// The longest that any gate here waits between two checks.
const INTERVAL: Duration = Duration::from_secs(30);

#[test]
fn a_gate_that_fails_at_10_percent_rolls_back() {
    let simulation = Simulation::new();
    simulation.gates(
        |gate, share, _| {
            if gate == 0 && share == Share::percent(10).unwrap() { failing() } else { passing() }
        },
    );
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(shares_held(&simulation), ["0 %", "1 %", "5 %", "10 %", "0 %"]);
    assert!(
        simulation
            .notices()
            .iter()
            .any(|notice| notice.text == "Rolling back: gate errors: 7 %, must be ≤ 1 %")
    );
}

/// Lets a gate fail in a state; returns how long it took until the provider had blue.
fn fails_while(
    config: &str,
    state: impl Fn(&kongferry::cutover::status::StatusSnapshot) -> bool,
    pause: bool,
) -> Duration {
    let simulation = Simulation::with(config);
    let mut took = Duration::ZERO;
    let ended = simulation.start().with(async |mut anna| {
        anna.until(&state).await;
        if pause {
            anna.send(OperatorCommand::Pause).await.unwrap();
            anna.sleep(7_200).await;
        }
        let failed = anna.now();
        simulation.gates(|_, _, _| failing());
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        took = anna.now() - failed;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(simulation.provider.stored().share(), Some(Share::BLUE));
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
    let simulation = Simulation::new();
    // The write of the second step takes ten minutes, and lands after the rollback.
    simulation.provider.fail([None, None, Some(Fault::Slow(600))]);
    let mut took = Duration::ZERO;
    let ended = simulation.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Applying).await;
        let failed = anna.now();
        simulation.gates(|_, _, _| failing());
        anna.until(|status| status.state == "rolling_back" && status.share.weight == Share::BLUE).await;
        took = anna.now() - failed;
    });
    assert!(took <= INTERVAL + Duration::from_secs(5), "{took:?}");
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(simulation.provider.stored().share(), Some(Share::BLUE));
}

#[test]
fn a_gate_that_fails_before_anything_goes_to_green_pauses() {
    let simulation = Simulation::new();
    simulation.gates(|_, _, _| failing());
    simulation.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.share.weight, Share::BLUE);
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(shares_held(&simulation), ["0 %"]);
}

#[test]
fn a_gate_with_on_fail_pause_pauses() {
    let simulation = Simulation::with(&CONFIG.replace("max = 0.01", "max = 0.01\non_fail = \"pause\""));
    simulation.gates(|gate, share, _| if gate == 0 && share > Share::BLUE { failing() } else { passing() });
    simulation.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.share.weight, Share::percent(1).unwrap());
        anna.send(OperatorCommand::Leave).await.unwrap();
    });
}

#[test]
fn an_inconclusive_gate_pauses_and_never_continues() {
    for why in ["no data", "the query returns NaN", "Prometheus did not answer"] {
        let simulation = Simulation::new();
        simulation.gates(move |gate, share, _| {
            if gate == 0 && share > Share::BLUE { Measurement::inconclusive(why) } else { passing() }
        });
        simulation.start().with(async |mut anna| {
            let status = anna.until_state("paused").await;
            assert!(status.paused.unwrap().reason.contains(why));
            anna.sleep(20_000).await;
            let status = anna.until(|_| true).await;
            assert_eq!((status.state.as_str(), status.share.weight), ("paused", Share::percent(1).unwrap()));
            // Going on without an answer pauses again, at the same share.
            anna.send(OperatorCommand::Resume).await.unwrap();
            anna.until(|status| status.state == "step").await;
            anna.until_state("paused").await;
            anna.send(OperatorCommand::Leave).await.unwrap();
        });
        assert_eq!(shares_held(&simulation), ["0 %", "1 %"]);
    }
}

#[test]
fn inconclusive_checks_at_another_share_do_not_count() {
    let simulation = Simulation::new();
    let (clock, written) = (simulation.clock.clone(), std::sync::Arc::new(std::sync::Mutex::new(None)));
    // Nothing is known of green before it gets traffic, and for fifty seconds after.
    simulation.gates(move |gate, share, now| {
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
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
    assert!(!simulation.has_notice("paused"));
    assert!(clock.now() > Duration::from_secs(86_400));
}

#[test]
fn a_gate_whose_last_check_is_inconclusive_holds_the_step() {
    let simulation =
        Simulation::with(&CONFIG.replace("max = 0.01", "max = 0.01\ninconclusive_limit = 1000000"));
    simulation.gates(|gate, share, _| {
        if gate == 0 && share > Share::BLUE { Measurement::inconclusive("no data") } else { passing() }
    });
    assert_eq!(simulation.start().run_for(Duration::from_secs(3 * 86_400)), None);
    assert_eq!(shares_held(&simulation), ["0 %", "1 %"]);
}

#[test]
fn a_rollback_ends_when_green_is_idle() {
    let simulation = Simulation::new();
    let clock = simulation.clock.clone();
    let failed_at = std::sync::Arc::new(std::sync::Mutex::new(None));
    let observed = failed_at.clone();
    simulation.gates(move |_, share, now| {
        if share == Share::percent(10).unwrap() {
            observed.lock().unwrap().get_or_insert(now);
            failing()
        } else {
            passing()
        }
    });
    let until = failed_at.clone();
    simulation.traffic(move |_, now| {
        let failed = *until.lock().unwrap();
        // Connections that were open are used for half an hour.
        let busy = failed.is_some_and(|failed| now < failed + Duration::from_secs(1_800));
        Traffic { blue: Some(90.0), green: Some(if busy { 2.0 } else { 0.0 }) }
    });
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
    let took = clock.now() - failed_at.lock().unwrap().expect("it failed");
    assert!((1_800..1_830).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn a_rollback_needs_no_counters() {
    let simulation = Simulation::new();
    simulation.traffic(|_, _| Traffic::default());
    simulation.gates(|_, share, _| if share > Share::BLUE { failing() } else { passing() });
    assert_eq!(simulation.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert!(simulation.has_notice("not_counted"));
}
