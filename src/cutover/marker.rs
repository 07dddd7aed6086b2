//! The words that a cutover writes into the marker, and how messages describe records.

use chrono::{DateTime, Utc};

use crate::dns::{Marker, Observed, RecordState};

/// State of the marker of a rollback.
pub const ROLLED_BACK: &str = "rolled-back";
/// State of the marker that comes with the short TTL.
pub const LOWERED: &str = "ttl-lowered";
/// State of the marker of a step.
pub const STEP: &str = "step";

/// The note of a released lease begins with this; who released it follows.
pub const UNLOCKED: &str = "unlocked by ";

/// The note of a step begins with this where steps were skipped; their numbers follow, from 1.
pub const SKIPPED: &str = "skipped ";

pub fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Who took a run over, as the marker says.
pub fn describe_takeover(marker: &Marker, action: &str) -> String {
    // The marker of a released lease has the former owner.
    if marker.note.starts_with(UNLOCKED) {
        return marker.note.clone();
    }
    format!("{} {action} at {}", marker.owner, utc(marker.written_at))
}

/// Who rolled back, and why.
pub fn describe_rollback(marker: &Marker) -> String {
    let (owner, note) = (&marker.owner, &marker.note);
    if note.starts_with(owner.as_str()) {
        note.clone()
    } else if note.is_empty() || note.contains(owner.as_str()) {
        owner.clone()
    } else {
        format!("{owner} ({note})")
    }
}

pub fn describe_records(observed: &Observed) -> String {
    if let Some(share) = observed.share() {
        return format!("{share} to green");
    }
    let states = observed.records.iter().map(|record| match &record.state {
        RecordState::Absent => format!("no {}", record.key),
        RecordState::Foreign(text) => format!("{}: {text}", record.key),
        state => {
            format!("{}: {}", record.key, state.share().map_or("?".to_owned(), |share| share.to_string()))
        }
    });
    states.collect::<Vec<_>>().join(", ")
}
