//! The state of a cutover that no process on this machine runs.

use super::config::CutoverConfig;
use super::engine::write::{LOWERED, ROLLED_BACK, STEP, describe_records};
use super::journal::{JournalEntry, JournalEvent, last_phase};
use super::session::{recorded_rollback_reason, skipped};
use super::state::{Activity, CutoverPhase, Goal, Pause};
use super::status::{Shares, StatusSnapshot, TimedNotice};
use crate::dns::{Observed, Share};

/// The state without a running engine. The provider's records decide; the journal adds what happened last.
pub fn status_from_provider(
    config: &CutoverConfig,
    entries: &[JournalEntry],
    observed: &Observed,
    rollback_command: &str,
) -> StatusSnapshot {
    let marker = observed.marker.as_ref();
    let run = marker.map(|marker| marker.run).unwrap_or_default();
    let entries_of_run = || entries.iter().filter(|entry| marker.is_none() || entry.run == run);
    let events: Vec<TimedNotice> = entries_of_run()
        .filter_map(|entry| match &entry.what {
            JournalEvent::Notice { notice } => Some(TimedNotice { at: entry.at, notice: notice.clone() }),
            _ => None,
        })
        .collect();
    let recorded_phase = match marker.and_then(|_| last_phase(entries, run)) {
        Some(JournalEvent::Phase { now, paused, .. }) => Some((*now, paused.clone())),
        _ => None,
    };
    let share = observed.share();
    let unmarked = share.filter(|share| marker.is_none() && ![Share::BLUE, Share::GREEN].contains(share));
    let phase = phase_of(observed, recorded_phase.as_ref().map(|(phase, _)| *phase), config);
    let changed = marker.is_some_and(|marker| share != Some(marker.share)) || share.is_none();
    let paused = if let Some(share) = unmarked {
        let reason = format!("{share} to green without a marker: \"adopt --from-provider\" or \"rollback\"");
        Some(Pause { code: "changed".to_owned(), reason })
    } else if changed {
        Some(Pause {
            code: "changed".to_owned(),
            reason: format!("the provider has {}", describe_records(observed)),
        })
    } else {
        recorded_phase.and_then(|(_, paused)| paused).filter(|_| marker.is_some() && !phase.is_over())
    };
    StatusSnapshot {
        format: 1,
        run,
        records: config.target.records().iter().map(|record| record.key.to_string()).collect(),
        state: match (marker, paused.is_some()) {
            (None, false) if phase == CutoverPhase::Ready => "not_started".to_owned(),
            (_, true) => "paused".to_owned(),
            _ => phase.as_str().to_owned(),
        },
        phase,
        sentence: match marker {
            _ if unmarked.is_some() => "split without a marker".to_owned(),
            None if phase == CutoverPhase::Ready => "not started, all traffic goes to blue".to_owned(),
            _ => phase.sentence(&config.steps),
        },
        paused,
        rollback_reason: marker
            .filter(|_| matches!(phase, CutoverPhase::RolledBack))
            .map(|marker| recorded_rollback_reason(entries, marker)),
        steps: config.steps.clone(),
        step: phase.step(),
        skipped: marker.map(|marker| skipped(entries, marker, &config.steps)).unwrap_or_default(),
        share: Shares { weight: share.unwrap_or_default(), by_queries: None, by_counters: None },
        seconds_left: None,
        seconds_in_stage: 0.0,
        gates: Vec::new(),
        traffic: None,
        events: events.into_iter().rev().take(8).rev().collect(),
        owner: marker.map(|marker| marker.owner.clone()).unwrap_or_default(),
        at: chrono::Utc::now(),
        watched: false,
        rollback_command: rollback_command.to_owned(),
        manual_command: None,
    }
}

fn phase_of(
    observed: &Observed,
    recorded_phase: Option<CutoverPhase>,
    config: &CutoverConfig,
) -> CutoverPhase {
    let Some(marker) = &observed.marker else {
        return if observed.share() == Some(Share::GREEN) {
            CutoverPhase::Finished
        } else {
            CutoverPhase::Ready
        };
    };
    match marker.state.as_str() {
        ROLLED_BACK => CutoverPhase::RolledBack,
        LOWERED => CutoverPhase::Moving { goal: Goal::LowerTtl, activity: Activity::Baking },
        STEP if marker.share == Share::GREEN
            && matches!(recorded_phase, Some(CutoverPhase::Draining | CutoverPhase::Drained)) =>
        {
            recorded_phase.unwrap_or(CutoverPhase::Draining)
        }
        _ => {
            let index = usize::try_from(marker.step).unwrap_or(0).min(config.steps.len().saturating_sub(1));
            let activity = recorded_phase.and_then(CutoverPhase::activity).unwrap_or(Activity::Baking);
            CutoverPhase::Moving { goal: Goal::Step(index), activity }
        }
    }
}
