//! The state of a cutover that no process on this machine runs.

use super::config::CutoverConfig;
use super::journal::{JournalEntry, JournalEvent, last_phase};
use super::marker::{LOWERED, ROLLED_BACK, STEP, describe_records};
use super::session::{recorded_rollback_reason, skipped_steps};
use super::state::{Activity, CutoverPhase, Goal, Pause};
use super::status::{Shares, StatusSnapshot, TimedNotice};
use crate::dns::{Observed, Share};

/// How many events are shown.
const MAX_EVENTS: usize = 8;

/// The state without a running engine. The provider's records decide; the journal adds the last events.
pub fn status_from_provider(
    config: &CutoverConfig,
    entries: &[JournalEntry],
    observed: &Observed,
    rollback_command: &str,
) -> StatusSnapshot {
    let marker = observed.marker.as_ref();
    let run = marker.map(|marker| marker.run).unwrap_or_default();
    let notices =
        entries.iter().filter(|entry| marker.is_none() || entry.run == run).filter_map(|entry| match &entry
            .event
        {
            JournalEvent::Notice { notice } => Some(TimedNotice { at: entry.at, notice: notice.clone() }),
            _ => None,
        });
    let events: Vec<TimedNotice> = notices.collect();
    let (recorded_phase, recorded_pause) = match marker.and_then(|_| last_phase(entries, run)) {
        Some(JournalEvent::Phase { now, paused, .. }) => (Some(*now), paused.clone()),
        _ => (None, None),
    };
    let share = observed.share();
    let unmarked = share.filter(|share| marker.is_none() && ![Share::BLUE, Share::GREEN].contains(share));
    let phase = phase_of(observed, recorded_phase, config);
    let changed = |reason: String| Some(Pause { code: "changed".to_owned(), reason });
    let paused = if let Some(share) = unmarked {
        changed(format!(
            "{share} to green without a marker: run \"kongferry cutover adopt --from-provider\" or \"rollback\""
        ))
    } else if share.is_none() || marker.is_some_and(|marker| share != Some(marker.share)) {
        changed(format!("the records were changed: the provider has {}", describe_records(observed)))
    } else {
        recorded_pause.filter(|_| !phase.is_over())
    };
    let is_unstarted = marker.is_none() && phase == CutoverPhase::Ready;
    StatusSnapshot {
        format: 1,
        run,
        records: config.target.records().iter().map(|record| record.key.to_string()).collect(),
        state: if paused.is_some() {
            "paused"
        } else if is_unstarted {
            "not_started"
        } else {
            phase.as_str()
        }
        .to_owned(),
        phase,
        sentence: if unmarked.is_some() {
            "split without a marker".to_owned()
        } else if is_unstarted {
            "not started, all traffic goes to blue".to_owned()
        } else {
            phase.sentence(&config.steps)
        },
        paused,
        rollback_reason: marker
            .filter(|_| phase == CutoverPhase::RolledBack)
            .map(|marker| recorded_rollback_reason(entries, marker)),
        steps: config.steps.clone(),
        step: phase.step(),
        skipped: marker.map(|marker| skipped_steps(entries, marker, &config.steps)).unwrap_or_default(),
        share: Shares { weight: share.unwrap_or_default(), ..Shares::default() },
        events: events.into_iter().rev().take(MAX_EVENTS).rev().collect(),
        owner: marker.map(|marker| marker.owner.clone()).unwrap_or_default(),
        at: chrono::Utc::now(),
        rollback_command: rollback_command.to_owned(),
        ..StatusSnapshot::default()
    }
}

fn phase_of(observed: &Observed, recorded: Option<CutoverPhase>, config: &CutoverConfig) -> CutoverPhase {
    let Some(marker) = &observed.marker else {
        let is_green = observed.share() == Some(Share::GREEN);
        return if is_green { CutoverPhase::Finished } else { CutoverPhase::Ready };
    };
    let has_all_steps = marker.state == STEP && marker.share == Share::GREEN;
    match (marker.state.as_str(), recorded) {
        (ROLLED_BACK, _) => CutoverPhase::RolledBack,
        (LOWERED, _) => CutoverPhase::moving(Goal::LowerTtl, Activity::Baking),
        (_, Some(phase @ (CutoverPhase::Draining | CutoverPhase::Drained))) if has_all_steps => phase,
        _ => {
            let index = usize::try_from(marker.step).unwrap_or(0).min(config.steps.len().saturating_sub(1));
            let activity = recorded.and_then(CutoverPhase::activity).unwrap_or(Activity::Baking);
            CutoverPhase::moving(Goal::Step(index), activity)
        }
    }
}
