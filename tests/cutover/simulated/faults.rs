//! What goes wrong at the provider and at the name servers: each leads to a state that is known beforehand, none to
//! a share that nobody asked for.

use kongferry::cutover::clock::Clock;
use std::time::Duration;

use kongferry::cutover::engine::EngineOutcome;
use kongferry::cutover::environment::NameServerState;
use kongferry::cutover::state::{Activity, CutoverPhase, OperatorCommand};
use kongferry::dns::{RecordState, Share, Side};

use crate::memory::Fault;
use crate::world::{World, failing, path};

const ALL: [&str; 6] = ["0 %", "1 %", "5 %", "10 %", "50 %", "100 %"];

fn percent(percent: u16) -> Share {
    Share::percent(percent).unwrap()
}

/// Lets the third write go wrong, and says how it ended.
fn third_write_fails(faults: &[Fault]) -> (World, EngineOutcome) {
    let world = World::new();
    world.provider.fail([None, None].into_iter().chain(faults.iter().copied().map(Some)));
    let running = world.start();
    (world, running.end())
}

#[test]
fn throttling_errors_of_servers_and_lost_requests_are_waited_out() {
    for faults in [
        vec![Fault::Throttled(7), Fault::Throttled(1)],
        vec![Fault::Server; 5],
        vec![Fault::LostRequest; 3],
        vec![Fault::LostAnswer],
        vec![Fault::LostRequest, Fault::Server, Fault::LostAnswer],
        vec![Fault::Late(1)],
        vec![Fault::Late(100)],
    ] {
        let (world, ended) = third_write_fails(&faults);
        assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::Drained), "{faults:?}");
        assert_eq!(path(&world), ALL, "{faults:?}");
    }
}

#[test]
fn a_wrong_key_pauses_at_the_share_that_stands() {
    let world = World::new();
    world.provider.fail([None, None, Some(Fault::Auth)]);
    world.start().with(async |mut anna| {
        let status = anna.until_state("paused").await;
        assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("provider"));
        assert_eq!(status.share.weight, percent(1));
        anna.say(OperatorCommand::Resume).await.unwrap();
        anna.until_activity(5, Activity::Baking).await;
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert_eq!(path(&world), ["0 %", "1 %", "5 %"]);
}

#[test]
fn a_provider_that_stays_away_pauses_after_the_limit() {
    let world = World::new();
    world.provider.fail([None, None].into_iter().chain([Some(Fault::Server); 100]));
    world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Applying).await;
        let began = anna.now();
        anna.until_state("paused").await;
        let took = (anna.now() - began).as_secs();
        assert!((600..640).contains(&took), "{took}");
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
}

#[test]
fn a_rollback_is_tried_until_it_is_done() {
    let world = World::new();
    let faults = [Fault::Auth, Fault::Server, Fault::Throttled(2), Fault::LostRequest, Fault::Auth];
    world.provider.fail([None; 3].into_iter().chain(faults.map(Some)));
    world.gates(|_, share, _| if share == percent(5) { failing() } else { crate::world::passing() });
    let mut manual = None;
    let ended = world.start().with(async |mut anna| {
        manual = anna.until(|status| status.manual_command.is_some()).await.manual_command;
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(manual.as_deref(), Some("by hand"));
    assert_eq!(path(&world), ["0 %", "1 %", "5 %", "0 %"]);
}

#[test]
fn a_rollback_writes_even_where_nothing_can_be_read() {
    let world = World::new();
    let mut took = Duration::ZERO;
    world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        world.provider.fail_reads(1_000);
        let began = anna.now();
        anna.say(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
        anna.until(|status| status.share.weight == Share::BLUE).await;
        took = anna.now() - began;
        world.provider.fail_reads(0);
    });
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_write_that_lands_after_the_rollback_is_taken_back() {
    let world = World::new();
    world.provider.fail([None, None, Some(Fault::Late(20))]);
    let ended = world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Applying).await;
        anna.sleep(1).await;
        anna.say(OperatorCommand::Rollback { reason: "by hand".to_owned() }).await.unwrap();
    });
    assert_eq!(ended, EngineOutcome::Reached(CutoverPhase::RolledBack));
    assert_eq!(path(&world), ["0 %", "1 %", "0 %", "5 %", "0 %"]);
    assert!(world.was_notified("not_back"));
}

#[test]
fn records_changed_behind_our_back_pause() {
    let world = World::new();
    world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Baking).await;
        world.provider.set(|held| held.state = RecordState::Split { blue: 1, green: 3 });
        let status = anna.until_state("paused").await;
        let pause = status.paused.unwrap();
        assert_eq!(pause.code, "changed");
        assert!(pause.reason.contains("75 %"), "{}", pause.reason);
        anna.say(OperatorCommand::Rollback { reason: String::new() }).await.unwrap();
    });
    assert_eq!(path(&world), ["0 %", "1 %", "5 %", "75 %", "0 %"]);
}

#[test]
fn records_made_ordinary_and_values_of_others_pause_before_the_next_write() {
    for state in
        [RecordState::Plain(Side::Blue), RecordState::Foreign("192.0.2.99".to_owned()), RecordState::Absent]
    {
        let world =
            World::with(&crate::world::CONFIG.replace("check_every = \"10s\"", "check_every = \"2h\""));
        world.start().with(async |mut anna| {
            anna.until_activity(5, Activity::Baking).await;
            world.provider.set(|held| held.state = state.clone());
            let status = anna.until_state("paused").await;
            assert_eq!(status.paused.unwrap().code, "changed", "{state:?}");
            anna.say(OperatorCommand::Leave).await.unwrap();
        });
        assert!(!path(&world).contains(&"10 %".to_owned()), "{state:?}");
    }
}

#[test]
fn a_secondary_that_lags_is_waited_for_and_then_pauses() {
    let world = World::new();
    let clock = world.clock.clone();
    world.answers(move |share, now| {
        let slow = share == percent(5) && now < Duration::from_secs(8_000);
        if slow { NameServerState::Pending("ns2 answers 1 %".to_owned()) } else { NameServerState::Agree }
    });
    world.start().with(async |mut anna| {
        anna.until_activity(5, Activity::Settling).await;
        let status = anna.until_state("paused").await;
        assert_eq!(status.paused.map(|pause| pause.code).as_deref(), Some("name_servers"));
        anna.say(OperatorCommand::Resume).await.unwrap();
        anna.until_activity(5, Activity::Baking).await;
        anna.say(OperatorCommand::Leave).await.unwrap();
    });
    assert!(clock.now() > Duration::from_secs(8_000));
}

#[test]
fn a_wrong_answer_rolls_back_when_it_is_written_and_when_it_comes_later() {
    for later in [false, true] {
        let world = World::new();
        let began = std::sync::Arc::new(std::sync::Mutex::new(None));
        world.answers(move |share, now| {
            if share != percent(10) {
                return NameServerState::Agree;
            }
            let first = *began.lock().unwrap().get_or_insert(now);
            let wrong = !later || now > first + Duration::from_secs(1_000);
            if wrong { NameServerState::Wrong("ns1: SERVFAIL".to_owned()) } else { NameServerState::Agree }
        });
        assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::RolledBack));
        assert_eq!(path(&world), ["0 %", "1 %", "5 %", "10 %", "0 %"]);
        assert!(world.told().iter().any(|said| said.text.contains("wrong answers: ns1: SERVFAIL")));
    }
}

#[test]
fn a_slow_confirmation_is_waited_for() {
    let world = World::new();
    world.provider.confirm_late(20);
    assert_eq!(world.start().end(), EngineOutcome::Reached(CutoverPhase::Drained));
}
